"""Where the examples' texts come from: the pinned download and CSV files."""

import importlib
import importlib.util
import io
import os
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def datasets() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        return importlib.import_module("datasets")


def test_the_sign_of_the_rating_is_the_label_and_texts_rated_zero_are_left_out(datasets: ModuleType) -> None:
    data = datasets.parse_ground_truth("1\t2.7\tso good\r\n2\t-0.1\tnot\tgood\r\n3\t0.0\tmeh\r\n")
    assert data.texts == ["so good", "not\tgood"]
    assert data.labels == [1, 0]


def test_the_real_tweets_and_snippets_are_read_from_the_download(datasets: ModuleType, trained_models: Path) -> None:
    assert trained_models.is_dir()  # training has fetched the download
    tweets = datasets.read_ground_truth(datasets.TWEETS)
    snippets = datasets.read_ground_truth(datasets.MOVIES)
    assert (len(tweets.texts), sum(tweets.labels)) == (4196, 2897)
    assert (len(snippets.texts), sum(snippets.labels)) == (10568, 5242)


def test_a_damaged_download_is_not_read_and_no_network_is_one_clear_line(
    datasets: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz"):
        pass
    (tmp_path / datasets.SDIST).write_bytes(content.getvalue())
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(datasets.DataError, match=r"^pip could not download vaderSentiment-3\.3\.2\.tar\.gz .*ERROR"):
        datasets.fetch_sdist(tmp_path)


def test_a_csv_of_texts_is_read_with_quotes_and_newlines(datasets: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text('text,target\n"a, ""b""\nc",1\nÜ,0\n', encoding="utf-8")
    data = datasets.read_csv(path)
    assert data.texts == ['a, "b"\nc', "Ü"]
    assert data.labels == [1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,1\n", "must have the columns text and target"),
        ("text,target\na,yes\n", "line 2: target must be 0 or 1, not 'yes'"),
        ("", "must have the columns text and target"),
    ],
)
def test_a_csv_that_cannot_be_used_is_named(datasets: ModuleType, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "texts.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(datasets.DataError, match=message):
        datasets.read_csv(path)


def test_too_few_texts_of_a_label_are_refused(datasets: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,target\n" + "good,1\n" * 60, encoding="utf-8")
    with pytest.raises(datasets.DataError, match="60 positive and 0 negative texts"):
        datasets.read_texts(path, datasets.TWEETS)


def test_the_sample_of_real_tweets_is_read(datasets: ModuleType) -> None:
    path = SHARED / "tweets.csv"
    if not path.is_file():
        pytest.skip(f"the sample of tweets is not there: {path}")
    data = datasets.read_texts(path, datasets.TWEETS)
    assert len(data.texts) == 6000
    assert sum(data.labels) == 2998


def test_the_download_needs_nothing_but_the_projects_environment() -> None:
    """Pip reads the sdist's metadata with the setuptools that is installed: both are in the dev group."""
    for name in ("pip", "setuptools"):
        assert importlib.util.find_spec(name), f"{name} is missing from {sys.prefix}"
