"""What has been measured, in one JSON file with a section a kind, each with the settings and the day it is from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.peers.kill import KillResult
from benchmarks.peers.measure import Figures
from benchmarks.peers.memory import MemoryResult
from benchmarks.report import describe_machine


@dataclass(slots=True)
class Results:
    """All three sections; a run replaces those that it measures and leaves the others."""

    figures: list[Figures] = field(default_factory=list)
    kills: list[KillResult] = field(default_factory=list)
    memory: list[MemoryResult] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why ``<section> <subject> <model>`` has no figures."""
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each section: settings, machine and day."""

    def begin(self, section: str, settings: Mapping[str, Any]) -> None:
        """Forget a section, which is measured anew."""
        attribute = {"speed": "figures", "kill": "kills", "memory": "memory"}[section]
        setattr(self, attribute, [])
        self.reasons = {key: why for key, why in self.reasons.items() if key.split()[0] != section}
        self.about[section] = {**settings, **describe_machine(), "complete": False}

    def finish(self, section: str) -> None:
        """Note that a section was measured to its end."""
        self.about[section]["complete"] = True

    def reason(self, section: str, subject: str, model: str) -> str:
        """Return why there are no figures, empty when there is no such reason."""
        return self.reasons.get(f"{section} {subject} {model}", "")


def save(results: Results, path: Path) -> None:
    """Write the results."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(orjson.dumps(asdict(results), option=orjson.OPT_INDENT_2))
    new.replace(path)


def load(path: Path) -> Results:
    """Read results; empty when there are none yet."""
    if not path.exists():
        return Results()
    stored = orjson.loads(path.read_bytes())
    return Results(
        figures=[Figures(**one) for one in stored["figures"]],
        kills=[KillResult(**one) for one in stored["kills"]],
        memory=[MemoryResult(**one) for one in stored["memory"]],
        reasons=stored["reasons"],
        about=stored["about"],
    )
