"""How an instance becomes a request's body, and an answer's body a prediction again, in each system's protocol."""

from typing import Any, Literal

import orjson

from benchmarks.peers.models_served import PeerModel

Protocol = Literal["plain", "list", "v2"]
"""``plain``: the instance, answered by the prediction. ``list``: BentoML's ``{"instances": [...]}``, answered by a
list. ``v2``: the Open Inference Protocol, a tensor a field."""


def encode(protocol: Protocol, model: PeerModel, instance: dict[str, Any]) -> bytes:
    """Return the body of a request with one instance."""
    if protocol == "plain":
        return orjson.dumps(instance)
    if protocol == "list":
        return orjson.dumps({"instances": [instance]})
    inputs = [
        {"name": field, "shape": [1, 1], "datatype": datatype, "data": [instance[field]]}
        for field, datatype in model.inputs.items()
    ]
    return orjson.dumps({"inputs": inputs})


def decode(protocol: Protocol, body: bytes) -> Any:
    """Return the prediction in an answer's body. Raises ValueError, KeyError or IndexError when there is none."""
    answer = orjson.loads(body)
    if protocol == "plain":
        return answer
    if protocol == "list":
        (prediction,) = answer
        return prediction
    return {output["name"]: output["data"][0] for output in answer["outputs"]}


def expected(protocol: Protocol, model: PeerModel, prediction: dict[str, Any]) -> dict[str, Any]:
    """Return what ``decode`` makes of the right answer."""
    return prediction if protocol != "v2" else {field: prediction[field] for field in model.outputs}
