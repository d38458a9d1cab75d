"""Train tweet-sentiment 1: frequencies of words in positive and negative tweets, and a regression on their sums."""

import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from datasets import TWEETS, LabelledTexts, read_texts
from model import make_stemmer, split_words
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from training import HELD_OUT, SEED, copy_code, finish, run, version_folder

HERE = Path(__file__).resolve().parent
GOLDEN = [
    "I love this, what a wonderful day!",
    "worst service ever, so sad and angry :( http://example.com/x",
    "",
    "!!! ... ???",
    "¡Qué día más bonito! 素晴らしい 🎉",
    "GREAT great Great @you #happy",
]
LABELS = ("Negative", "Positive")

INSTANCE_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "string",
    "description": "The text of one tweet",
}
PREDICTION_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "string",
    "enum": list(LABELS),
    "description": "The sentiment of the tweet",
}


def read_stop_words() -> frozenset[str]:
    """Return the stop words of the file beside this one."""
    lines = (HERE / "stop_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def stems(texts: list[str], stop_words: frozenset[str]) -> list[list[str]]:
    """Return the stems of each text's words that are not stop words."""
    stem_word = cache(make_stemmer(stop_words))
    return [[stem for word in split_words(text) if (stem := stem_word(word))] for text in texts]


def count_words(documents: list[list[str]], labels: list[int]) -> dict[str, list[int]]:
    """Return for each stem how often it occurs in positive and in negative documents."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for document, label in zip(documents, labels, strict=True):
        counts[label].update(document)
    negative, positive = counts
    return {stem: [positive[stem], negative[stem]] for stem in sorted(negative | positive)}


def features(documents: list[list[str]], frequencies: dict[str, list[int]]) -> np.ndarray:
    """Return two numbers for each document: its words' frequencies summed over positive and over negative tweets."""
    unknown = [0, 0]
    sums = np.zeros((len(documents), 2))
    for row, document in enumerate(documents):
        for stem in document:
            sums[row] += frequencies.get(stem, unknown)
    return sums


def fit(data: LabelledTexts, stop_words: frozenset[str]) -> dict[str, Any]:
    """Return the weights that ``model.py`` reads."""
    documents = stems(data.texts, stop_words)
    frequencies = count_words(documents, data.labels)
    scaler = StandardScaler()
    scaled = scaler.fit_transform(features(documents, frequencies))
    # Balanced: positive tweets are more than twice as many, which says nothing about the tweets to come.
    regression = LogisticRegression(class_weight="balanced").fit(scaled, data.labels)
    # The scaling is folded into the coefficients: what is served works on the plain sums.
    coefficients = regression.coef_[0] / scaler.scale_
    return {
        "frequencies": frequencies,
        "coefficients": coefficients.tolist(),
        "intercept": float(regression.intercept_[0] - coefficients @ scaler.mean_),
        "stop_words": sorted(stop_words),
    }


def predict(weights: dict[str, Any], texts: list[str]) -> list[str]:
    """Return the sentiment of each text, worked out feature by feature as the tutorial does."""
    documents = stems(texts, frozenset(weights["stop_words"]))
    scores = features(documents, weights["frequencies"]) @ weights["coefficients"] + weights["intercept"]
    return [LABELS[int(score > 0)] for score in scores]


def train(output: Path, data: Path | None) -> None:
    """Train on four fifths, measure on the rest and write ``<output>/tweet-sentiment/1``."""
    tweets = read_texts(data, TWEETS)
    indexes = list(range(len(tweets.texts)))
    used, held = train_test_split(indexes, test_size=HELD_OUT, random_state=SEED, stratify=tweets.labels)
    print(f"tweet-sentiment: {len(used)} tweets to train on, {len(held)} held out (seed {SEED})", flush=True)
    weights = fit(tweets.subset(used), read_stop_words())
    held_out = tweets.subset(held)
    predicted = [LABELS.index(label) for label in predict(weights, held_out.texts)]
    accuracy = balanced_accuracy_score(held_out.labels, predicted)
    print(f"tweet-sentiment 1: balanced accuracy {accuracy:.4f} on held-out tweets", flush=True)
    with version_folder(output, "tweet-sentiment", "1") as folder:
        (folder / "weights.json").write_text(json.dumps(weights, ensure_ascii=False), encoding="utf-8")
        copy_code(folder, HERE / "model.py")
        values = {
            "name": "tweet-sentiment",
            "version": "1",
            "description": "Tweets to Positive or Negative: two word-frequency sums and a logistic regression",
            "framework": "python",
            "artifact": "weights.json",
            "entrypoint": "model.py:TweetSentiment",
            "input": {"kind": "text"},
            "instance_schema": INSTANCE_SCHEMA,
            "prediction_schema": PREDICTION_SCHEMA,
            "libraries": ["snowballstemmer"],
            "metrics": {"balanced_accuracy": round(accuracy, 4), "train_rows": len(used), "held_out_rows": len(held)},
        }
        answers = zip(GOLDEN, predict(weights, GOLDEN), strict=True)
        finish(folder, values, [{"instance": text, "prediction": answer} for text, answer in answers], data)


if __name__ == "__main__":
    run("Train the tweet sentiment model.", train, "CSV with the columns text and target, instead of the download")
