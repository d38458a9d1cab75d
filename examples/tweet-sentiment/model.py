"""Tweets to sentiment: two word-frequency sums and a logistic regression, read from JSON weights."""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import snowballstemmer

URL = re.compile(r"https?://\S+|www\.\S+", re.IGNORECASE)
PUNCTUATION = re.compile(r"[^\w\s]|_")
LONGEST_WORD = 40
"""Letters from which on a word is not stemmed: the stemmer takes minutes for a million times the letter y."""


def split_words(text: str) -> list[str]:
    """Return a text's words in lower case, without URLs and punctuation."""
    # Lower-cased before it is stemmed: the stemmer knows the endings in small letters only.
    return PUNCTUATION.sub("", URL.sub(" ", text)).lower().split()


def make_stemmer(stop_words: frozenset[str]) -> Callable[[str], str | None]:
    """Return the function that gives a lower-case word's stem, or None for a stop word."""
    stem = snowballstemmer.stemmer("porter").stemWord

    def stem_word(word: str) -> str | None:
        if word in stop_words:
            return None
        return word if len(word) > LONGEST_WORD else stem(word)

    return stem_word


class TweetSentiment:
    """Says for each tweet whether it is Positive or Negative."""

    def load(self, context: Any) -> None:
        """Read ``weights.json``: word frequencies, coefficients, stop words."""
        weights = json.loads(Path(context.folder, "weights.json").read_text(encoding="utf-8"))
        positive_coefficient, negative_coefficient = weights["coefficients"]
        self._intercept = weights["intercept"]
        # The two features are sums over words and the regression is linear in them, so each word has one weight of
        # its own, and a tweet's log-odds are the sum of its words' weights.
        by_stem = {
            stem: positive_coefficient * positive + negative_coefficient * negative
            for stem, (positive, negative) in weights["frequencies"].items()
        }
        stem_word = make_stemmer(frozenset(weights["stop_words"]))

        # Words repeat and stemming is what costs; bounded, as clients choose the words.
        @lru_cache(maxsize=50_000)
        def word_weight(word: str) -> float:
            return by_stem.get(stem_word(word) or "", 0.0)

        self._word_weight = word_weight

    def predict(self, instances: list[str]) -> list[str]:
        """Return ``Positive`` or ``Negative`` for each tweet."""
        return ["Positive" if score > 0 else "Negative" for score in self.log_odds(instances)]

    def log_odds(self, instances: list[str]) -> list[float]:
        """Return for each tweet the logarithm of the odds that it is positive."""
        intercept, word_weight = self._intercept, self._word_weight
        return [intercept + sum(map(word_weight, split_words(text))) for text in instances]
