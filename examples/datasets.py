"""Texts with a label: the tweets and movie-review snippets of vaderSentiment's source distribution, and CSV files."""

import csv
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".muleteer" / "data"
REQUIREMENTS = Path(__file__).resolve().with_name("requirements-data.txt")
SDIST = "vaderSentiment-3.3.2.tar.gz"
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
TWEETS = "tweets_GroundTruth.txt"
MOVIES = "movieReviewSnippets_GroundTruth.txt"
FEWEST = 50
"""Texts of each label below which training makes no sense."""


class DataError(Exception):
    """Training data cannot be had or read; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Texts and their labels: 1 is positive, 0 is negative."""

    texts: list[str]
    labels: list[int]

    def subset(self, indexes: list[int]) -> "LabelledTexts":
        """Return the texts at ``indexes``, in that order."""
        return LabelledTexts([self.texts[i] for i in indexes], [self.labels[i] for i in indexes])


def fetch_sdist(cache: Path = CACHE) -> Path:
    """Return the source distribution in ``cache``, downloaded by pip when it is not there or not whole.

    Raises DataError when it cannot be downloaded.
    """
    path = cache / SDIST
    if path.is_file() and _sha256(path) == _pinned_sha256():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        # pip reads an sdist's metadata even for a download; with setuptools at hand it need not fetch a build system.
        options = ["--require-hashes", "--no-deps", "--no-binary=vaderSentiment", "--no-build-isolation", "--no-input"]
        command = [sys.executable, "-m", "pip", "download", *options, "-r", str(REQUIREMENTS), "-d", folder]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        downloaded = Path(folder) / SDIST
        if result.returncode != 0 or not downloaded.is_file():
            lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
            why = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no output")
            raise DataError(f"pip could not download {SDIST} ({why.strip()}); put the file at {path} to do without")
        downloaded.replace(path)
    return path


def read_ground_truth(name: str, cache: Path = CACHE) -> LabelledTexts:
    """Return the texts of one file (``TWEETS`` or ``MOVIES``) of the data set, downloading it when needed.

    Raises DataError when it cannot be downloaded.
    """
    with tarfile.open(fetch_sdist(cache)) as outer:
        inner = outer.extractfile(INNER)
        if inner is None:
            raise DataError(f"{SDIST} holds no {INNER}")
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
            member = archive.extractfile(f"hutto_ICWSM_2014/{name}")
            if member is None:
                raise DataError(f"{INNER} holds no {name}")
            return parse_ground_truth(member.read().decode())


def parse_ground_truth(content: str) -> LabelledTexts:
    """Return the texts of tab-separated lines of id, mean rating (-4 to 4) and text.

    The rating's sign is the label; the few texts rated exactly 0 are neither and are left out.
    """
    texts, labels = [], []
    for line in content.splitlines():
        _, rating, text = line.split("\t", 2)
        if float(rating) != 0:
            texts.append(text)
            labels.append(int(float(rating) > 0))
    return LabelledTexts(texts, labels)


def read_csv(path: Path) -> LabelledTexts:
    """Return the texts of a CSV file with the columns ``text`` and ``target`` (0 or 1).

    Raises DataError when a column is missing or a target is something else.
    """
    texts, labels = [], []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not {"text", "target"} <= set(reader.fieldnames or ()):
            raise DataError(f"{path} must have the columns text and target, but has {reader.fieldnames}")
        for row in reader:
            if row["target"] not in ("0", "1"):
                raise DataError(f"{path}, line {reader.line_num}: target must be 0 or 1, not {row['target']!r}")
            texts.append(row["text"])
            labels.append(int(row["target"]))
    return LabelledTexts(texts, labels)


def read_texts(path: Path | None, default: str) -> LabelledTexts:
    """Return the texts of a CSV file, or without one those of the data set's file ``default``.

    Raises DataError when there are too few of either label to learn from.
    """
    data = read_ground_truth(default) if path is None else read_csv(path)
    positive = sum(data.labels)
    negative = len(data.labels) - positive
    if min(positive, negative) < FEWEST:
        raise DataError(f"{path or default} has {positive} positive and {negative} negative texts; each needs {FEWEST}")
    return data


def _pinned_sha256() -> str:
    match = re.search(r"--hash=sha256:([0-9a-f]{64})", REQUIREMENTS.read_text(encoding="utf-8"))
    if match is None:
        raise DataError(f"{REQUIREMENTS} pins no sha256")
    return match[1]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
