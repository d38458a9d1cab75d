"""Train movie-sentiment 1 (scikit-learn) and export the same pipeline as movie-sentiment 2 (ONNX)."""

import sys
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import skops.io
from datasets import MOVIES, LabelledTexts, read_texts
from pipeline import export_onnx, make_pipeline, scores
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from training import HELD_OUT, SEED, finish, run, version_folder

from muleteer.errors import ModelLoadError

CANDIDATES = (1.0, 3.0, 10.0)
LARGEST_DIFFERENCE = 1e-4
"""Of a held-out text's score between scikit-learn (double precision) and ONNX (single precision)."""

GOLDEN = [
    "this movie really sucked",
    "A beautiful, moving film with a wonderful cast.",
    "",
    "?!",
    "Ça, c'était génial — 素晴らしい 🎬 GREAT movie",
    "good " * 200,
]

INSTANCE_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"text": {"type": "string", "description": "What somebody wrote about a movie"}},
    "required": ["text"],
}
PREDICTION_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "score": {"type": "number", "minimum": 0, "maximum": 1, "description": "From 0, a pan, to 1, a rave"}
    },
    "required": ["score"],
    "additionalProperties": False,
}


def fit(data: LabelledTexts) -> Pipeline:
    """Return the pipeline trained with the regularisation that cross-validation within ``data`` likes best."""
    figures = {
        c: cross_val_score(make_pipeline(c), data.texts, data.labels, cv=3, scoring="balanced_accuracy").mean()
        for c in CANDIDATES
    }
    best = max(figures, key=figures.__getitem__)
    tried = ", ".join(f"C={c:g} {figure:.4f}" for c, figure in figures.items())
    print(f"movie-sentiment: cross-validated within the training part: {tried}", flush=True)
    return make_pipeline(best).fit(data.texts, data.labels)


def accuracy_of(predicted: list[float], labels: list[int]) -> float:
    """Return the balanced accuracy of scores, positive from one half on."""
    return float(balanced_accuracy_score(labels, [int(score >= 0.5) for score in predicted]))


def onnx_scores(path: Path, texts: list[str]) -> list[float]:
    """Return for each text the probability that it is positive, worked out by the ONNX graph."""
    import onnxruntime  # noqa: PLC0415 - only this function needs the runtime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    column = np.array(texts, dtype=object).reshape(-1, 1)
    return session.run(["probabilities"], {"text": column})[0][:, 1].astype(float).tolist()


def manifest(version: str, **values: Any) -> dict[str, Any]:
    """Return the fields of ``model.yaml`` that both versions share, and ``values``."""
    return {
        "name": "movie-sentiment",
        "version": version,
        "description": "A text about a movie to a score from 0 to 1: TF-IDF and a logistic regression",
        "input": {"kind": "text", "field": "text"},
        "instance_schema": INSTANCE_SCHEMA,
        "prediction_schema": PREDICTION_SCHEMA,
        **values,
    }


def golden(predicted: list[float], tolerance: float) -> list[dict[str, Any]]:
    """Return the golden examples with what the trained pipeline says to them."""
    return [
        {"instance": {"text": text}, "prediction": {"score": score}, "tolerance": tolerance}
        for text, score in zip(GOLDEN, predicted, strict=True)
    ]


def write_sklearn(folder: Path, pipeline: Pipeline, metrics: dict[str, float], data: Path | None) -> None:
    """Write version 1: the pipeline as skops stores it."""
    skops.io.dump(pipeline, folder / "model.skops", compression=zipfile.ZIP_DEFLATED)
    values = manifest(
        "1",
        framework="sklearn",
        artifact="model.skops",
        output={"method": "predict_proba", "column": 1, "field": "score"},
        metrics=metrics,
    )
    finish(folder, values, golden(scores(pipeline, GOLDEN), 1e-6), data)


def write_onnx(
    folder: Path, pipeline: Pipeline, held_out: LabelledTexts, metrics: dict[str, float], data: Path | None
) -> None:
    """Write version 2: the same pipeline as an ONNX graph, if it gives the same scores.

    Raises ModelLoadError (reason ``golden``) when a held-out text's scores differ.
    """
    path = folder / "model.onnx"
    path.write_bytes(export_onnx(pipeline))
    predicted = onnx_scores(path, held_out.texts)
    difference = float(np.abs(np.subtract(predicted, scores(pipeline, held_out.texts))).max())
    print(f"movie-sentiment 2: scores differ from version 1 by at most {difference:.1e}", flush=True)
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelLoadError(
            f"the ONNX export's scores differ by {difference:.1e}, more than {LARGEST_DIFFERENCE:g}", reason="golden"
        )
    accuracy = accuracy_of(predicted, held_out.labels)
    values = manifest(
        "2",
        framework="onnx",
        artifact="model.onnx",
        output={"output": "probabilities", "column": 1, "field": "score"},
        metrics={**metrics, "balanced_accuracy": round(accuracy, 4), "largest_score_difference": difference},
    )
    finish(folder, values, golden(scores(pipeline, GOLDEN), LARGEST_DIFFERENCE), data)


def train(output: Path, data: Path | None) -> None:
    """Train on four fifths, measure on the rest and write ``<output>/movie-sentiment/1`` and ``/2``."""
    snippets = read_texts(data, MOVIES)
    indexes = list(range(len(snippets.texts)))
    used, held = train_test_split(indexes, test_size=HELD_OUT, random_state=SEED, stratify=snippets.labels)
    print(f"movie-sentiment: {len(used)} snippets to train on, {len(held)} held out (seed {SEED})", flush=True)
    pipeline = fit(snippets.subset(used))
    held_out = snippets.subset(held)
    accuracy = accuracy_of(scores(pipeline, held_out.texts), held_out.labels)
    print(f"movie-sentiment 1: balanced accuracy {accuracy:.4f} on held-out snippets", flush=True)
    metrics = {"balanced_accuracy": round(accuracy, 4), "train_rows": len(used), "held_out_rows": len(held)}
    with version_folder(output, "movie-sentiment", "1") as folder:
        write_sklearn(folder, pipeline, metrics, data)
    with version_folder(output, "movie-sentiment", "2") as folder:
        write_onnx(folder, pipeline, held_out, metrics, data)


if __name__ == "__main__":
    run("Train the movie sentiment model.", train, "CSV with the columns text and target, instead of the download")
