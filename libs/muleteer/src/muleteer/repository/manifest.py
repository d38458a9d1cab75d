"""``model.yaml``: what a version folder says about itself."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from muleteer.catalog.model import ModelName, Sha256, Strict, VersionName
from muleteer.errors import ModelLoadError

MANIFEST = "model.yaml"


class InputSpec(Strict):
    """How instances become the model's input."""

    kind: Literal["records", "dataframe", "array", "text"] = "records"
    field: str | None = Field(None, description="Take only this member of each instance (text and array)")
    columns: list[str] | None = Field(None, description="Members, in order, that make a row (array and dataframe)")
    dtype: str | None = Field(None, description="numpy dtype of an array")


class OutputSpec(Strict):
    """How the model's output becomes predictions."""

    method: Literal["predict", "predict_proba", "decision_function", "transform"] = "predict"
    output: str | None = Field(None, description="Name of the ONNX output to take")
    column: int | None = Field(None, description="Take only this column of a matrix")
    labels: dict[str, Any] | None = Field(None, description="Replace an output (as text) by another value")
    field: str | None = Field(None, description="Wrap each output as an object with this one member")
    version_field: str | None = Field(None, description="Add the version's name under this member (needs `field`)")


class Example(Strict):
    """A golden example: an instance, and what the model must predict for it."""

    instance: Any
    prediction: Any
    tolerance: float = Field(1e-6, ge=0, description="Largest difference of any number, absolute or relative")


class Manifest(Strict):
    """One immutable version of a model."""

    name: ModelName
    version: VersionName
    description: str = ""
    framework: Literal["sklearn", "onnx", "mlflow", "python"]
    artifact: str = Field(description="File or folder, relative to the version folder, that is the model")
    sha256: Sha256
    files: dict[str, Sha256] = Field({}, description="Checksums of the other files that the model reads")
    entrypoint: str | None = Field(None, description="Framework python: `file.py:Class`")
    input: InputSpec = InputSpec()
    output: OutputSpec = OutputSpec()
    instance_schema: dict[str, Any] = Field({}, description="JSON Schema of one instance")
    prediction_schema: dict[str, Any] = Field({}, description="JSON Schema of one prediction")
    examples: list[Example] = Field([], description="Golden examples, checked before the version takes traffic")
    libraries: dict[str, str] = Field({}, description="Distribution -> version it was trained with")
    metrics: dict[str, float] = Field({}, description="Figures from training, for people")
    parameters: dict[str, Any] = Field({}, description="Anything the model's own code wants to read")


def read_manifest(folder: Path) -> Manifest:
    """Read ``model.yaml`` of a version folder.

    Raises ModelLoadError (reason ``manifest``) with one line that says what is missing or wrong.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text()))
    except FileNotFoundError as error:
        raise ModelLoadError(f"{path} is missing", reason="manifest") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path} is not YAML: {' '.join(str(error).split())}", reason="manifest") from error
    except ValidationError as error:
        parts = [f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg'].lower()}" for e in error.errors()]
        raise ModelLoadError(f"{path}: " + "; ".join(parts), reason="manifest") from error
