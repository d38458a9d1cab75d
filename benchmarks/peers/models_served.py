"""The four models, and what is sent to them and must come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, FOREST, MODELS, NO_OP, TEXT, Case
from benchmarks.resident import load_model
from benchmarks.workload import make_workload


@dataclass(frozen=True, slots=True)
class PeerModel:
    """A model that every system serves, and the V2 names of what goes in and comes out."""

    name: str
    title: str
    model: str
    repository: Path
    inputs: Mapping[str, str]
    """Fields of an instance and their V2 datatype."""
    outputs: Mapping[str, str]
    """Fields of a prediction and their V2 datatype; a ``model_version`` is a field of V2's answer itself."""
    own_forests: bool = False
    """The peers call scikit-learn's own random forest, not the one of Muleteer's adapter."""

    @property
    def folder(self) -> Path:
        """The version folder."""
        return self.repository / self.model / "1"


NO_OP_MODEL = PeerModel("noop", "No-op", NO_OP.model, NO_OP.repository, {"id": "INT64"}, {"id": "INT64"})
TEXT_MODEL = PeerModel("text", "TF-IDF + logistic regression", TEXT.model, MODELS, {"text": "BYTES"}, {"score": "FP64"})
FOREST_MODEL = PeerModel(
    "forest",
    "Random forest of 100 trees",
    FOREST.model,
    MODELS,
    {"PULocationID": "INT64", "DOLocationID": "INT64", "trip_distance": "FP64"},
    {"duration": "FP64"},
)
FANCY = PeerModel("fancy", "FancyModel, 5 ms a call", "fancy", MODELS, {"text": "BYTES"}, {"res": "BYTES"})
PEER_MODELS = (NO_OP_MODEL, TEXT_MODEL, FOREST_MODEL, FANCY)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The requests of one model, in the order they are sent, and what it answers when it is called directly."""

    instances: Sequence[dict[str, Any]]
    predictions: Sequence[dict[str, Any]]


def make_exchange(model: PeerModel, folder: Path, seed: int) -> Exchange:
    """Draw a model's requests (the example data of the other benchmarks) and ask the model itself for the answers.

    Raises ModelLoadError when a version folder is not there.
    """
    workload = make_workload(_case(model), folder, seed)
    if model.name != FANCY.name:
        return Exchange(workload.instances, workload.predictions)
    instances = [dict(instance) for instance in workload.instances]
    # FancyModel's answers are also asked of it as one call: 5 ms for all of them.
    return Exchange(instances, load_model(model.model, model.folder).predict([dict(one) for one in instances]))


def _case(model: PeerModel) -> Case:
    return next((case for case in CASES if case.name == model.name), TEXT)
