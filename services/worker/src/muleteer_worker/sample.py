"""A small sample of what a version predicts, counted: numbers by size, texts and truth values by label."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from muleteer.metrics import PREDICTION_VALUE, PREDICTIONS

ROWS = 8
"""Most predictions that are looked at of those predicted together."""
MAX_FIELDS = 20
"""Members of a version's predictions that are counted: a model may make them up as it goes."""
MAX_LABELS = 20
OTHER = "other"
"""What labels beyond these are counted as."""
TEXT_LENGTH = 64


def take_sample(predictions: Sequence[Any]) -> Sequence[Any]:
    """Return at most ``ROWS`` predictions, from all over: neighbours often belong to one caller."""
    size = len(predictions)
    return predictions if size <= ROWS else predictions[:: -(-size // ROWS)]


class SampledField:
    """One member of a version's predictions; '' is a prediction that has no members."""

    __slots__ = ("_labels", "_names", "_observe")

    def __init__(self, model: str, version: str, field: str) -> None:
        self._names = (model, version, field)
        self._labels: dict[Any, Any] = {}
        self._observe: Any = None

    def number(self, value: float) -> None:
        """Count a number; NaN and infinities are none."""
        if self._observe is None:
            self._observe = PREDICTION_VALUE.labels(*self._names).observe
        if isfinite(value):
            self._observe(value)

    def label(self, value: str | bool) -> None:
        """Count a text or a truth value."""
        count = self._labels.get(value)
        if count is None:
            count = self._new_label(value)
        count()

    def _new_label(self, value: str | bool) -> Any:
        if len(self._labels) < MAX_LABELS:
            text = clean(value) if isinstance(value, str) else str(value).lower()
            count = self._labels[value] = PREDICTIONS.labels(*self._names, text).inc
            return count
        return self._other

    def _other(self) -> None:
        PREDICTIONS.labels(*self._names, OTHER).inc()


class Sampler:
    """Counts the sampled predictions of one version. What has been counted once costs about a microsecond."""

    def __init__(self, model: str, version: str) -> None:
        self._model, self._version = model, version
        self._fields: dict[str, SampledField] = {}

    def count(self, predictions: Sequence[Any]) -> None:
        """Count predictions as the model's adapter gave them. What is neither number nor label is passed over."""
        for prediction in predictions:
            if type(prediction) is dict:
                for name, value in prediction.items():
                    self._count(name, value)
            else:
                self._count("", prediction)

    def _count(self, name: str, value: Any) -> None:
        kind = type(value)
        if kind is not float and kind is not str and kind is not int and kind is not bool:
            return
        field = self._fields.get(name) or self._new_field(name)
        if field is None:
            return
        if kind is float or kind is int:
            field.number(value)
        else:
            field.label(value)

    def _new_field(self, name: str) -> SampledField | None:
        if len(self._fields) >= MAX_FIELDS:
            return None
        field = self._fields[name] = SampledField(self._model, self._version, clean(name))
        return field


def clean(text: str) -> str:
    """Return a text as a label of bounded length, without half characters, which a scrape could not be written with."""
    return text[:TEXT_LENGTH].encode("utf-8", "replace").decode()
