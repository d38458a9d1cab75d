"""MLflow versions: any pyfunc model, loaded by MLflow itself."""

import sys
from pathlib import Path
from typing import Any

import pytest

from muleteer.errors import ModelLoadError
from muleteer.repository.store import write_manifest
from muleteer_worker.frameworks import Adapter, make_adapter

# MLflow 3 warns about its own type hints when it is imported, and about ours when it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore")

CODE = """
import mlflow.pyfunc
from mlflow.models import set_model

class Sum(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["a"] + model_input["b"]

set_model(Sum())
"""


@pytest.fixture
def quiet_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def adapter_for(folder: Path, allow: bool = False, **values: Any) -> Adapter:
    document = {"name": "toy", "version": "1", "framework": "mlflow", "artifact": "mlmodel"}
    manifest = write_manifest(folder, {**document, "input": {"kind": "dataframe"}, **values})
    return make_adapter(folder, manifest, frozenset([manifest.sha256] if allow else []))


@pytest.mark.usefixtures("quiet_mlflow")
def test_a_pyfunc_model_from_code_is_served(tmp_path: Path) -> None:
    import mlflow.pyfunc

    (tmp_path / "code.py").write_text(CODE)
    mlflow.pyfunc.save_model(tmp_path / "mlmodel", python_model=str(tmp_path / "code.py"), pip_requirements=[])
    adapter = adapter_for(tmp_path, output={"field": "sum"})
    adapter.load()

    assert adapter.predict([{"a": 1, "b": 2}, {"a": 3, "b": 4}]) == [{"sum": 3}, {"sum": 7}]
    adapter.unload()


@pytest.mark.usefixtures("quiet_mlflow")
def test_a_pickled_model_is_loaded_only_when_its_checksum_is_allowed(tmp_path: Path) -> None:
    import mlflow.sklearn
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[1.0], [2.0]], [2.0, 4.0])
    mlflow.sklearn.save_model(
        model, tmp_path / "mlmodel", serialization_format="pickle", pip_requirements=["scikit-learn"]
    )
    with pytest.raises(ModelLoadError, match=r"mlmodel holds pickles \(model\.pkl\)") as caught:
        adapter_for(tmp_path).load()
    assert caught.value.reason == "unsafe"

    adapter = adapter_for(tmp_path, allow=True, input={"kind": "array"})
    adapter.load()
    assert adapter.predict([[3.0], [5.0]]) == pytest.approx([6.0, 10.0])


def test_a_missing_mlflow_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlmodel").mkdir()
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", None)  # what Python itself does for a module it cannot find

    with pytest.raises(
        ModelLoadError, match=r"mlflow-skinny is needed .*: install muleteer-worker\[mlflow\]"
    ) as caught:
        adapter_for(tmp_path).load()
    assert caught.value.reason == "library"


def test_an_artifact_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlmodel").write_text("")
    with pytest.raises(ModelLoadError, match="must be an MLflow model folder"):
        adapter_for(tmp_path).load()
