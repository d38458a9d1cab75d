"""MLServer: a runtime of its own, behind the V2 protocol, with adaptive batching. Started by ``mlserver start``."""

import json
import os
from typing import Any

from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.apps.served import Served


class Model(MLModel):  # type: ignore[misc]  # - not typed where this is checked
    """The model behind V2 tensors: one input a field of an instance, one output a field of a prediction."""

    async def load(self) -> bool:
        """Load the model."""
        self._served = Served()
        self._outputs: dict[str, str] = json.loads(os.environ["BENCH_OUTPUTS"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch that MLServer has merged."""
        names = [one.name for one in payload.inputs]
        columns = [getattr(one.data, "root", one.data) for one in payload.inputs]
        instances: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        predictions = self._served.predict(instances)
        outputs = [
            ResponseOutput(
                name=field,
                shape=[len(predictions), 1],
                datatype=datatype,
                data=[prediction[field] for prediction in predictions],
            )
            for field, datatype in self._outputs.items()
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
