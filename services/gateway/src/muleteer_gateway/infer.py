"""Requests and answers of the Open Inference Protocol (V2): tensors in, tensors out, the same instances between."""

from dataclasses import dataclass, replace
from typing import Any

import orjson

from muleteer.errors import BadRequestError
from muleteer_gateway.prefer import Preference
from muleteer_gateway.signature import PREDICTION, Signature
from muleteer_gateway.tensors import read_rows, write_tensor, wrong

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Inference:
    """What an inference request says beside its tensors: how its answer is to be written, and by when."""

    model: str
    signature: Signature
    id: str | None = None
    outputs: frozenset[str] | None = None
    """Names of the outputs wanted, None for all."""
    timeout: float | None = None
    """Seconds."""

    @property
    def depth(self) -> int:
        """How many names come before the row in the path of a value: that of its tensor, where there are several."""
        return 1 if self.signature.by_name else 0

    def bound(self, prefer: Preference, max_wait: float) -> Preference:
        """Return how the caller wants its answer, with the request's own timeout where no header says otherwise."""
        if self.timeout is None or prefer.mode != "sync":
            return prefer
        return replace(prefer, wait=min(self.timeout, max_wait))

    def render(self, predictions: bytes, version: str) -> bytes:
        """Return the answer's body for a JSON array of predictions."""
        rows = orjson.loads(predictions)
        datatypes = {spec.name: spec.datatype for spec in self.signature.outputs}
        outputs = [
            write_tensor(name, values, datatypes.get(name, ""))
            for name, values in _columns(rows).items()
            if self.outputs is None or name in self.outputs
        ]
        answer: dict[str, Any] = {"model_name": self.model, "model_version": version, "outputs": outputs}
        if self.id is not None:
            answer["id"] = self.id
        return orjson.dumps(answer)


def read_inference(payload: Any, model: str, signature: Signature) -> tuple[list[Any], Inference]:
    """Return the instances of an inference request, and what else it says.

    Raises BadRequestError or ValidationFailedError that says what is wrong with which member.
    """
    if not isinstance(payload, dict) or not isinstance(payload.get("inputs"), list) or not payload["inputs"]:
        raise BadRequestError(
            'The body must be an object with a list of tensors: {"inputs": [{"name", "shape", "datatype", "data"}]}.'
        )
    request_id = payload.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise wrong("id", "must be a string")
    inference = Inference(
        model,
        signature,
        request_id,
        _read_outputs(payload.get("outputs"), signature),
        _read_timeout(payload.get("parameters")),
    )
    return _read_instances(payload["inputs"], signature), inference


def _read_instances(inputs: list[Any], signature: Signature) -> list[Any]:
    columns: dict[str, list[Any]] = {}
    for number, tensor in enumerate(inputs):
        path = f"inputs/{number}"
        name = tensor.get("name") if isinstance(tensor, dict) else ""
        if not isinstance(name, str):
            raise wrong(f"{path}/name", "must be a string")
        if name in columns:
            raise wrong(f"{path}/name", f"{name[:100]!r} is the name of another input already")
        spec = signature.input(name)
        rows = columns[name] = read_rows(tensor, path, arrays=spec is not None and len(spec.shape) > 1)
        first = next(iter(columns.values()))
        if len(rows) != len(first):
            raise wrong(f"{path}/shape", f"says {len(rows)} rows, and the first input's says {len(first)}")
    if not signature.by_name:
        if len(columns) > 1:
            raise wrong("inputs/1", "is one too many: an instance of this model is one value, so that it has one input")
        return next(iter(columns.values()))
    _check_names(columns, signature)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _check_names(columns: dict[str, list[Any]], signature: Signature) -> None:
    known = ", ".join(spec.name for spec in signature.inputs)
    for spec in signature.inputs:
        if spec.required and spec.name not in columns:
            raise wrong("inputs", f"there is no {spec.name!r} among them: this model's inputs are {known}")
    for number, name in enumerate(columns):
        if signature.closed and signature.input(name) is None:
            raise wrong(f"inputs/{number}/name", f"{name[:100]!r} is none of this model's inputs: {known}")


def _read_outputs(wanted: Any, signature: Signature) -> frozenset[str] | None:
    if wanted is None or wanted == []:
        return None
    if not isinstance(wanted, list):
        raise wrong("outputs", "must be a list of objects with a name")
    known = [spec.name for spec in signature.outputs]
    names = set()
    for number, output in enumerate(wanted):
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise wrong(f"outputs/{number}", "must be an object with a name")
        if known and name not in known:
            raise wrong(f"outputs/{number}/name", f"{name[:100]!r} is none of this model's outputs: {', '.join(known)}")
        names.add(name)
    return frozenset(names)


def _read_timeout(parameters: Any) -> float | None:
    """Return the request's ``timeout`` in seconds. In the body it is in microseconds, as Triton's clients send it."""
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise wrong("parameters", "must be an object")
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise wrong("parameters/timeout", "must be a whole number of microseconds")
    return timeout / MICROSECONDS or None


def _columns(rows: list[Any]) -> dict[str, list[Any]]:
    """Return the predictions by member when all are objects with the same ones, else as the one output."""
    first = rows[0]
    if isinstance(first, dict) and first and all(isinstance(row, dict) and row.keys() == first.keys() for row in rows):
        return {name: [row[name] for row in rows] for name in first}
    return {PREDICTION: rows}
