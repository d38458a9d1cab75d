"""A model that is slow in the way real ones are: to load, and in each call whatever the number of rows."""

import time
from typing import Any

LOAD_SECONDS = 0.05
PREDICT_SECONDS = 0.005


class FancyModel:
    """Answers every text with the same wisdom."""

    def load(self, context: Any) -> None:  # noqa: ARG002 - the signature of every model class
        """Take 50 ms, as reading weights would."""
        time.sleep(LOAD_SECONDS)

    def predict(self, instances: list[dict[str, str]]) -> list[dict[str, str]]:
        """Take 5 ms for the call, however many instances it has, and answer each."""
        time.sleep(PREDICT_SECONDS)
        return [{"res": f"Can't tell anything smart about: {instance['text']}"} for instance in instances]
