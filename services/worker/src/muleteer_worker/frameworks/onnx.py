"""ONNX: onnxruntime on the CPU."""

from pathlib import Path
from typing import Any

import numpy as np

from muleteer.errors import ModelLoadError
from muleteer.repository.checksums import member_path
from muleteer.repository.manifest import Manifest
from muleteer_worker.frameworks.inputs import Encode, as_array, make_encoder, take
from muleteer_worker.frameworks.libraries import require
from muleteer_worker.frameworks.outputs import make_decoder

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


class OnnxAdapter:
    """An ONNX graph.

    With kind ``records`` or ``dataframe`` each input of the graph takes the member of its name, as a column; with
    ``text`` or ``array`` the graph must have one input. One thread works on a predict call unless the manifest's
    ``parameters`` give ``intra_op_threads``.
    """

    def __init__(self, folder: Path, manifest: Manifest, allow_unsafe: frozenset[str]) -> None:  # noqa: ARG002 - one signature for all adapters; a graph holds no code
        self._path = member_path(folder, manifest.artifact)
        self._manifest = manifest

    def load(self) -> None:
        """Read the graph. Raises ModelLoadError (reasons ``library``, ``manifest`` or ``load``)."""
        runtime = require("onnxruntime", "onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = int(self._manifest.parameters.get("intra_op_threads", 1))
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        self._output = self._output_name([output.name for output in session.get_outputs()])
        self._feed = self._make_feed(session.get_inputs())
        self._decode = make_decoder(self._manifest.output, self._manifest.version)
        self._run = session.run

    def predict(self, instances: list[Any]) -> list[Any]:
        """Return one prediction for each instance."""
        return self._decode(self._run([self._output], self._feed(instances))[0])

    def unload(self) -> None:
        """Let the graph's memory go."""
        self._run = None

    def _output_name(self, names: list[str]) -> str:
        wanted = self._manifest.output.output or names[0]
        if wanted not in names:
            raise ModelLoadError(
                f"output.output: {self._path.name} has no output {wanted!r}, but {', '.join(names)}", reason="manifest"
            )
        return wanted

    def _make_feed(self, inputs: list[Any]) -> Encode:
        spec = self._manifest.input
        if spec.kind in ("records", "dataframe"):
            return _columns_feed(inputs)
        if len(inputs) != 1:
            names = ", ".join(item.name for item in inputs)
            raise ModelLoadError(
                f"input.kind: {spec.kind} needs a graph with one input, but {self._path.name} has {names}: use records",
                reason="manifest",
            )
        [item] = inputs
        encode = make_encoder(spec, dtype=_dtype(item))
        if spec.kind == "array":
            return lambda instances: {item.name: encode(instances)}
        shape = (-1,) if len(item.shape) == 1 else (-1, 1)
        return lambda instances: {item.name: np.array(encode(instances), dtype=np.object_).reshape(shape)}


def _columns_feed(inputs: list[Any]) -> Encode:
    columns = [(item.name, _dtype(item), (-1,) if len(item.shape) == 1 else (-1, 1)) for item in inputs]

    def feed(instances: list[Any]) -> dict[str, Any]:
        return {name: as_array(take(instances, name), dtype).reshape(shape) for name, dtype, shape in columns}

    return feed


def _dtype(item: Any) -> Any:
    if item.type not in _DTYPES:
        raise ModelLoadError(
            f"input {item.name!r} of the graph is a {item.type}, so JSON cannot fill it", reason="load"
        )
    return _DTYPES[item.type]
