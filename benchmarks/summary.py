"""Medians over the rounds, ratios between subjects, and whether the targets are met."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.cases import IN_PROCESS, MOST_ADDED_MILLISECONDS, MOST_COMMANDS, MOST_READS, MULETEER, Case
from benchmarks.measure import Measurement


@dataclass(frozen=True, slots=True)
class Row:
    """The medians of one subject of one case."""

    subject: str
    rate: float
    p50: float
    p99: float
    single_p50: float
    commands: float
    reads: float
    cpu: dict[str, float]


@dataclass(frozen=True, slots=True)
class Check:
    """One target and what was measured."""

    what: str
    target: str
    measured: str
    met: bool


def summarize(case: Case, measurements: Sequence[Measurement]) -> dict[str, Row]:
    """Return the rows of a case by subject, in the order in which subjects are listed."""
    by_subject: dict[str, list[Measurement]] = {}
    for one in measurements:
        if one.case == case.name:
            by_subject.setdefault(one.subject, []).append(one)
    return {subject: _row(subject, rounds) for subject, rounds in by_subject.items()}


def checks(case: Case, rows: dict[str, Row]) -> list[Check]:
    """Hold a case's rows against its targets."""
    ours = rows[MULETEER]
    out = []
    for subject, least in case.least_ratios.items():
        ratio = ours.rate / rows[subject].rate
        out.append(Check(f"requests/s over {subject}", f"at least {least:g}x", f"{ratio:.1f}x", ratio >= least))
    if IN_PROCESS in rows:
        added = ours.single_p50 - rows[IN_PROCESS].single_p50
        limit = f"at most +{MOST_ADDED_MILLISECONDS:g} ms"
        out.append(Check("p50 at 1 connection", limit, f"{added:+.2f} ms", added <= MOST_ADDED_MILLISECONDS))
    for part, most in case.most_cpu.items():
        cpu = ours.cpu[part]
        limit = f"at most {1000 * most:.0f} µs"
        out.append(Check(f"CPU a request, {part}", limit, f"{1000 * cpu:.0f} µs", cpu <= most))
    for what, value, most in (
        ("Redis commands a request", ours.commands, MOST_COMMANDS),
        ("Redis reads a request", ours.reads, MOST_READS),
    ):
        out.append(Check(what, f"at most {most:g}", f"{value:.2f}", value <= most))
    return out


def _row(subject: str, rounds: Sequence[Measurement]) -> Row:
    return Row(
        subject,
        rate=median(one.rate for one in rounds),
        p50=median(one.p50 for one in rounds),
        p99=median(one.p99 for one in rounds),
        single_p50=median(one.single_p50 for one in rounds),
        commands=median(one.commands for one in rounds),
        reads=median(one.reads for one in rounds),
        cpu={part: median(one.cpu[part] for one in rounds) for part in rounds[0].cpu},
    )
