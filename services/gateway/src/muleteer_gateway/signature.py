"""What a model version takes and answers as tensors, read off its manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muleteer.repository.manifest import InputSpec, Manifest

INSTANCE = "instance"
"""Name of the one input of a version whose instances are not objects."""
PREDICTION = "prediction"
"""Name of the one output of a version whose predictions are not objects."""
ANY_NUMBER = -1
"""A dimension that is not fixed, as the protocol writes it."""
MAX_DIMENSIONS = 8
"""More are not told: a schema may refer to itself."""
MAX_REFERENCES = 8
"""A longer chain of references is not followed."""

_DATATYPES = {"boolean": "BOOL", "integer": "INT64", "number": "FP64", "string": "BYTES"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: a column of all rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """Of the column: its first dimension is the number of rows."""
    required: bool = True

    def document(self) -> dict[str, Any]:
        """Return it as the protocol's metadata shows it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Signature:
    """The tensors of a model version."""

    inputs: tuple[TensorSpec, ...] = ()
    """Empty when the manifest does not tell."""
    outputs: tuple[TensorSpec, ...] = ()
    by_name: bool = True
    """Each input is one member of the instances; else the one input is the instances."""
    closed: bool = False
    """There are no inputs but these."""

    def input(self, name: str) -> TensorSpec | None:
        """Return the input of this name, or the one input of a version whose instances are not objects."""
        if not self.by_name:
            return self.inputs[0] if self.inputs else None
        return next((spec for spec in self.inputs if spec.name == name), None)


def signature_of(manifest: Manifest | None) -> Signature:
    """Return the tensors of the version that ``manifest`` describes, as far as its schemas tell them.

    They may be any JSON: what makes no sense in them tells nothing.
    """
    if manifest is None:
        return Signature()
    taken, schema = manifest.input, manifest.instance_schema
    resolved = _resolved(schema, schema)
    objects = _are_objects(resolved)
    by_name = objects
    if by_name is None:
        by_name = taken.kind in ("records", "dataframe") or bool(taken.field or taken.columns)
    closed = resolved.get("additionalProperties") is False and "patternProperties" not in resolved
    inputs = _implied(taken) if objects is None else _specs(schema, INSTANCE)
    return Signature(inputs, _specs(manifest.prediction_schema, PREDICTION), by_name, by_name and closed)


def _are_objects(schema: Mapping[str, Any]) -> bool | None:
    """Tell whether values of a schema are objects; None when it does not say."""
    kind = schema.get("type")
    if kind is not None:
        return kind == "object" or (isinstance(kind, list) and "object" in kind)
    return True if "properties" in schema else None


def _specs(root: Mapping[str, Any], name: str) -> tuple[TensorSpec, ...]:
    schema = _resolved(root, root)
    objects = _are_objects(schema)
    if objects is None:
        return ()
    if not objects:
        return (_spec(name, schema, root, required=True),)
    members, required = schema.get("properties"), schema.get("required")
    if not isinstance(members, Mapping):
        return ()
    needed = required if isinstance(required, list) else ()
    return tuple(
        _spec(member, part, root, required=member in needed)
        for member, part in members.items()
        if isinstance(member, str)
    )


def _implied(taken: InputSpec) -> tuple[TensorSpec, ...]:
    """Return the inputs of a version without a schema, as far as what its instances become tells them."""
    if taken.kind == "text":
        return (TensorSpec(taken.field or INSTANCE, "BYTES", (ANY_NUMBER,)),)
    if taken.kind == "array" and taken.columns:
        return tuple(TensorSpec(column, "FP64", (ANY_NUMBER,)) for column in taken.columns)
    if taken.kind == "array":
        return (TensorSpec(taken.field or INSTANCE, "FP64", (ANY_NUMBER, ANY_NUMBER)),)
    return ()


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a chain of references inside ``root`` leads to; an empty one when it leads nowhere."""
    for _ in range(MAX_REFERENCES):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str):
            break
        found: Any = root if reference.startswith("#/") else {}
        for part in reference[2:].split("/"):
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        schema = found
    return schema if isinstance(schema, Mapping) else {}


def _spec(name: str, schema: Any, root: Mapping[str, Any], *, required: bool) -> TensorSpec:
    shape, part = [ANY_NUMBER], _resolved(schema, root)
    while part.get("type") == "array" and len(shape) < MAX_DIMENSIONS:
        least, most = part.get("minItems"), part.get("maxItems")
        shape.append(most if isinstance(most, int) and least == most else ANY_NUMBER)
        part = _resolved(part.get("items"), root)
    kind = part.get("type")
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        kind = kinds[0] if len(kinds) == 1 else None
    # What is none of the protocol's types travels as JSON in a string.
    return TensorSpec(name, _DATATYPES.get(str(kind), "BYTES"), tuple(shape), required)
