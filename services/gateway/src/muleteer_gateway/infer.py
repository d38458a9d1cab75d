"""Requests and answers of the Open Inference Protocol (V2): tensors in, tensors out, the same instances between."""

import math
from dataclasses import dataclass, replace
from typing import Any

import orjson

from muleteer.errors import BadRequestError, PayloadTooLargeError
from muleteer_gateway.prefer import Preference
from muleteer_gateway.signature import PREDICTION, Signature
from muleteer_gateway.tensors import read_rows, write_tensor, wrong

MICROSECONDS = 1_000_000
STEPS_A_SECOND = 100
"""Of timeouts below a second; longer ones have a tenth of them."""
MAX_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Inference:
    """What an inference request says beside its tensors: how its answer is to be written, and by when."""

    model: str
    signature: Signature
    id: str | None = None
    outputs: tuple[str, ...] = ()
    """Names of the outputs wanted, none for all."""
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
        """Return the answer's body for a JSON array of predictions.

        Raises ValidationFailedError when an output is wanted that they do not have.
        """
        columns = _columns(orjson.loads(predictions))
        datatypes = {spec.name: spec.datatype for spec in self.signature.outputs}
        absent = [None] * len(next(iter(columns.values())))
        outputs = []
        for name in self.outputs or columns:
            if name not in columns and name not in datatypes:
                raise wrong("outputs", f"{name[:100]!r} is none of this model's outputs: {', '.join(columns)}")
            outputs.append(write_tensor(name, columns.get(name, absent), datatypes.get(name, "")))
        answer: dict[str, Any] = {"model_name": self.model, "model_version": version, "outputs": outputs}
        if self.id is not None:
            answer["id"] = self.id
        return orjson.dumps(answer)


def read_inference(
    payload: Any, model: str, signature: Signature, max_rows: int, max_bytes: int
) -> tuple[list[Any], Inference]:
    """Return the instances of an inference request, at most ``max_rows``, and what else it says.

    Raises BadRequestError or ValidationFailedError that says what is wrong with which member; PayloadTooLargeError for
    too many instances, and for names that would take more than ``max_bytes`` once each instance has them.
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
    return _read_instances(payload["inputs"], signature, max_rows, max_bytes), inference


def _read_instances(inputs: list[Any], signature: Signature, max_rows: int, max_bytes: int) -> list[Any]:
    columns: dict[str, list[Any]] = {}
    for number, tensor in enumerate(inputs):
        path = f"inputs/{number}"
        name = tensor.get("name") if isinstance(tensor, dict) else ""
        if not isinstance(name, str) or len(name) > MAX_NAME_LENGTH:
            raise wrong(f"{path}/name", f"must be a string of at most {MAX_NAME_LENGTH} characters")
        if name in columns:
            raise wrong(f"{path}/name", f"{name[:100]!r} is the name of another input already")
        spec = signature.input(name)
        rows = columns[name] = read_rows(tensor, path, max_rows, arrays=spec is not None and len(spec.shape) > 1)
        first = next(iter(columns.values()))
        if len(rows) != len(first):
            raise wrong(f"{path}/shape", f"says {len(rows)} rows, and the first input's says {len(first)}")
    if not signature.by_name:
        if len(columns) > 1:
            raise wrong("inputs/1", "is one too many: an instance of this model is one value, so that it has one input")
        return next(iter(columns.values()))
    _check_names(columns, signature)
    if len(first) * sum(map(len, columns)) > max_bytes:
        raise PayloadTooLargeError(
            f"The inputs' names, once for each of {len(first)} instances, are longer than {max_bytes} bytes "
            "(MULETEER_MAX_BODY_BYTES): send fewer instances at once.",
            limit=max_bytes,
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _check_names(columns: dict[str, list[Any]], signature: Signature) -> None:
    known = ", ".join(spec.name for spec in signature.inputs)
    for spec in signature.inputs:
        if spec.required and spec.name not in columns:
            raise wrong("inputs", f"there is no {spec.name!r} among them: this model's inputs are {known}")
    for number, name in enumerate(columns):
        if signature.closed and signature.input(name) is None:
            raise wrong(f"inputs/{number}/name", f"{name[:100]!r} is none of this model's inputs: {known}")


def _read_outputs(wanted: Any, signature: Signature) -> tuple[str, ...]:
    if wanted is None:
        return ()
    if not isinstance(wanted, list):
        raise wrong("outputs", "must be a list of objects with a name")
    known = [spec.name for spec in signature.outputs]
    names = []
    for number, output in enumerate(wanted):
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise wrong(f"outputs/{number}", "must be an object with a name")
        if known and name not in known:
            raise wrong(f"outputs/{number}/name", f"{name[:100]!r} is none of this model's outputs: {', '.join(known)}")
        names.append(name)
    return tuple(dict.fromkeys(names))


def _read_timeout(parameters: Any) -> float | None:
    """Return the request's ``timeout`` in seconds, rounded up a little: what waits is kept by how long it waits.

    In the body it is in microseconds, as Triton's clients send it.
    """
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise wrong("parameters", "must be an object")
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise wrong("parameters/timeout", "must be a whole number of microseconds")
    steps = STEPS_A_SECOND if timeout < MICROSECONDS else STEPS_A_SECOND // 10
    return math.ceil(timeout * steps / MICROSECONDS) / steps or None


def _columns(rows: list[Any]) -> dict[str, list[Any]]:
    """Return the predictions by member when all are objects, with None where one lacks it; else as the one output."""
    names = dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row)
    if names and all(isinstance(row, dict) for row in rows):
        return {name: [row.get(name) for row in rows] for name in names}
    return {PREDICTION: rows}
