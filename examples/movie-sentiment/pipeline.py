"""The movie model: TF-IDF and a logistic regression, made so that it can be exported to ONNX without a difference."""

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

TOKEN_PATTERN = "[a-zA-Z0-9_]+"  # noqa: S105 - a pattern of words, not a secret
"""Plain ranges mean the same to Python's ``re`` and to the RE2 of the ONNX runtime; ``\\w`` does not."""
OPSET = 15


def make_pipeline(c: float) -> Pipeline:
    """Return the untrained pipeline; ``c`` is the inverse of the regularisation's strength."""
    vectorizer = TfidfVectorizer(token_pattern=TOKEN_PATTERN, min_df=2)
    return Pipeline([("tfidf", vectorizer), ("classifier", LogisticRegression(C=c, max_iter=1000))])


def export_onnx(pipeline: Pipeline) -> bytes:
    """Return the trained pipeline as an ONNX graph: ``text`` in, ``label`` and ``probabilities`` out.

    The graph lower-cases in the locale "C", which is there on every machine; skl2onnx's own choice, en_US.UTF-8, is
    missing in slim images and the graph would not load. Only A to Z are lower-cased then, which is enough, as words
    are made of nothing else. Two letters in all of Unicode make a difference: Python turns the Turkish capital I with
    a dot and the Kelvin sign into ASCII letters.
    """
    graph = to_onnx(
        pipeline,
        initial_types=[("text", StringTensorType([None, 1]))],
        options={id(pipeline.named_steps["tfidf"]): {"locale": "C"}, id(pipeline): {"zipmap": False}},
        target_opset=OPSET,
    )
    return graph.SerializeToString()


def scores(pipeline: Pipeline, texts: list[str]) -> list[float]:
    """Return for each text the probability that it is positive."""
    return np.asarray(pipeline.predict_proba(texts))[:, 1].tolist()
