"""The tweet model: words, features, and that what is served is what was trained."""

import importlib
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from muleteer.repository.manifest import read_manifest
from muleteer_worker.readiness import LoadedVersion, prepare

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "tweet-sentiment"
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """``train.py`` of the example; its neighbours are imported by name, as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        patch.syspath_prepend(EXAMPLE)
        patch.delitem(sys.modules, "train", raising=False)
        patch.delitem(sys.modules, "model", raising=False)
        module = importlib.import_module("train")
        del sys.modules["train"], sys.modules["model"]
        return module


@pytest.fixture(scope="module")
def served(trained_models: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedVersion:
    folder = trained_models / "tweet-sentiment" / "1"
    return prepare("tweet-sentiment", "1", str(folder), tmp_path_factory.mktemp("cache"), frozenset())


def test_urls_and_punctuation_go_and_words_are_lower_case(training: ModuleType) -> None:
    text = "Don't look: https://t.co/x?a=1 WWW.example.org @you_too #Happy!!! naïve—Ünï"
    assert training.split_words(text) == ["dont", "look", "youtoo", "happy", "naïveünï"]


def test_stop_words_go_negations_stay_and_the_rest_is_stemmed(training: ModuleType) -> None:
    [stems] = training.stems(["I am NOT loving the queues"], training.read_stop_words())
    assert stems == ["not", "love", "queue"]


def test_the_features_are_sums_of_frequencies_in_positive_and_negative_tweets(training: ModuleType) -> None:
    documents = [["good", "day"], ["bad", "day"], ["good", "good"]]
    frequencies = training.count_words(documents, [1, 0, 1])
    assert frequencies == {"bad": [0, 1], "day": [1, 1], "good": [3, 0]}
    assert training.features([["good", "day", "new"], []], frequencies).tolist() == [[4, 1], [0, 0]]


def test_training_learns_which_words_are_positive(training: ModuleType) -> None:
    data = training.LabelledTexts(["good day", "bad day", "good good", "sad bad", "nice", "awful"] * 10, [1, 0] * 30)
    weights = training.fit(data, frozenset({"the"}))
    texts = ["the good", "bad bad", "", "unknown", "good bad day"]
    assert training.predict(weights, texts[:2]) == ["Positive", "Negative"]
    assert set(training.predict(weights, texts)) == {"Positive", "Negative"}


def test_every_held_out_tweet_gets_the_same_answer_from_the_version_folder(
    training: ModuleType, served: LoadedVersion
) -> None:
    tweets = training.read_texts(None, training.TWEETS)
    used, held = training.train_test_split(
        list(range(len(tweets.texts))),
        test_size=training.HELD_OUT,
        random_state=training.SEED,
        stratify=tweets.labels,
    )
    weights = training.fit(tweets.subset(used), training.read_stop_words())
    held_out = tweets.subset(held)
    answers = served.predict(held_out.texts)
    assert answers == training.predict(weights, held_out.texts)
    accuracy = training.balanced_accuracy_score(held_out.labels, [int(answer == "Positive") for answer in answers])
    assert accuracy == pytest.approx(served.manifest.metrics["balanced_accuracy"], abs=1e-4)
    assert accuracy >= 0.65


def test_ten_thousand_tweets_take_less_than_a_second(training: ModuleType, served: LoadedVersion) -> None:
    texts = training.read_texts(None, training.TWEETS).texts
    texts = (texts * 3)[:10_000]
    started = time.process_time()
    served.predict(texts)
    assert time.process_time() - started < 1.0


def test_a_word_without_end_does_not_hold_up_the_worker(served: LoadedVersion) -> None:
    """The stemmer alone needs minutes for a million times the letter y."""
    started = time.process_time()
    served.predict(["y" * 1_000_000, "logi" * 250_000])
    assert time.process_time() - started < 5.0


def test_training_on_the_sample_of_real_tweets_beats_the_tutorial(tmp_path: Path) -> None:
    data = SHARED / "tweets.csv"
    if not data.is_file():
        pytest.skip(f"the sample of tweets is not there: {data}")
    command = [sys.executable, str(EXAMPLE / "train.py"), "--output", str(tmp_path), "--data", str(data)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "balanced accuracy" in result.stdout
    assert read_manifest(tmp_path / "tweet-sentiment" / "1").metrics["balanced_accuracy"] >= 0.65
    assert [path.name for path in tmp_path.iterdir()] == ["tweet-sentiment"]
