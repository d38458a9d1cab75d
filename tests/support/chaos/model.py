"""The model that chaos is made around: each answer can be checked against its input, and names it."""

import zlib
from pathlib import Path
from typing import Any

from support.models import write_catalog, write_version

NAME = "calc"
VERSIONS = ("1", "2", "3")
MAX_DELIVERIES = 4
TIMEOUT_SECONDS = 6.0
RESULT_TTL = 600
FAILURE_TTL = 900

CODE = """
    import os
    import signal
    import time
    import zlib
    from pathlib import Path

    PAUSE = Path({pause!r})

    class Model:
        def predict(self, instances):
            texts = [i["text"] for i in instances]
            if any(t.startswith("kill") for t in texts):
                os.kill(os.getpid(), signal.SIGKILL)
            for t in texts:
                if t.startswith("raise"):
                    raise ValueError("this text is not to my taste: " + t)
            time.sleep(0.002 + float(PAUSE.read_text() or 0))
            checks = [zlib.crc32(("{version}|" + t).encode()) for t in texts]
            same = {{"version": {version!r}, "pid": os.getpid()}}
            return [{{"echo": t, "check": check}} | same for t, check in zip(texts, checks)]
"""


class CalcModel:
    """The model's folder, its catalog, and the knob that slows it."""

    def __init__(self, folder: Path) -> None:
        self.catalog = folder / "catalog.yaml"
        self._pause = folder / "pause"
        self.slow(0)
        for version in VERSIONS:
            write_version(folder / "models", NAME, version, CODE.format(pause=str(self._pause), version=version))
        self.serve({"1": 1.0, "2": 0.0})

    def slow(self, seconds: float) -> None:
        """Let every predict call take so many seconds more."""
        new = self._pause.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._pause)

    def serve(self, traffic: dict[str, float]) -> None:
        """Have the catalog name these versions, with these shares of the traffic."""
        entry = {
            "versions": {version: {} for version in traffic},
            "traffic": traffic,
            "timeout": TIMEOUT_SECONDS,
            "max_deliveries": MAX_DELIVERIES,
            "result_ttl": RESULT_TTL,
            "failure_ttl": FAILURE_TTL,
        }
        write_catalog(self.catalog, {NAME: entry})

    def break_catalog(self, how: int) -> str:
        """Put an edit in place that no part may take, one of several kinds; return the good one."""
        good = self.catalog.read_text()
        empty = good.replace("models:", "models:\n  other: {versions: {}}")
        # A typing mistake, a model without versions, half a file.
        broken = [good.replace("traffic", "trafic"), empty, good[: len(good) // 2] + "{"]
        new = self.catalog.with_suffix(".new")
        new.write_text(broken[how % len(broken)])
        new.replace(self.catalog)
        return good

    def mend_catalog(self, good: str) -> None:
        """Put back what ``break_catalog`` returned."""
        new = self.catalog.with_suffix(".new")
        new.write_text(good)
        new.replace(self.catalog)


def wrong_in(prediction: Any, text: str, version: str) -> str:
    """Return what is wrong with the prediction for ``text`` by ``version``; empty when it is right."""
    expected = {"echo": text, "version": version, "check": zlib.crc32(f"{version}|{text}".encode())}
    got = {name: value for name, value in prediction.items() if name != "pid"} if isinstance(prediction, dict) else None
    return "" if got == expected else f"{prediction!r} instead of {expected!r}"


def all_wrong_in(predictions: Any, texts: list[str], version: str) -> str:
    """Return what is wrong with a whole answer; empty when every prediction is its instance's, in order."""
    if not isinstance(predictions, list) or len(predictions) != len(texts):
        return f"{len(texts)} instances were answered by {predictions!r:.300}"
    found = (wrong_in(prediction, text, version) for prediction, text in zip(predictions, texts, strict=True))
    return next((wrong for wrong in found if wrong), "")
