"""A run as text, as CSV and as a picture (SVG)."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from benchmarks.report import Grid
from benchmarks.simulation.run import Outcome

SLICES = 24
"""Lines of the table over time."""
WIDTH, HEIGHT, LEFT, GAP = 760, 150, 60, 34
COLOURS = ("#7a8190", "#c2410c", "#1d4ed8")


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of a run."""

    start: float
    end: float
    rate: float
    """Requests a second that came."""
    mean: float
    p95: float
    """Queue seconds of the jobs that came in it; 0 when none came."""
    wanted: float
    ready: float
    """Pods, averaged over the stretch."""


def slices(outcome: Outcome, count: int = SLICES) -> list[Slice]:
    """Cut a run into stretches of equal length."""
    bounds = np.linspace(0.0, max(outcome.ended_at, 1e-9), count + 1)
    cuts = np.searchsorted(outcome.arrivals, bounds, side="left")
    cuts[-1] = len(outcome.arrivals)
    found = []
    for n in range(count):
        start, end = float(bounds[n]), float(bounds[n + 1])
        waits = outcome.waits[cuts[n] : cuts[n + 1]]
        waits = waits[~np.isnan(waits)]
        mean, p95 = (float(waits.mean()), float(np.percentile(waits, 95))) if len(waits) else (0.0, 0.0)
        rate = float(cuts[n + 1] - cuts[n]) / (end - start)
        found.append(Slice(start, end, rate, mean, p95, *_pods_between(outcome, start, end)))
    return found


def _pods_between(outcome: Outcome, start: float, end: float) -> tuple[float, float]:
    wanted = ready = 0.0
    changes = outcome.replicas
    for n, (at, pods, serving) in enumerate(changes):
        until = changes[n + 1][0] if n + 1 < len(changes) else outcome.ended_at
        overlap = max(0.0, min(until, end) - max(at, start))
        wanted += pods * overlap
        ready += serving * overlap
    return wanted / (end - start), ready / (end - start)


def show(console: Console, outcome: Outcome) -> None:
    """Print a run's figures and its course."""
    Grid("Queue seconds", ("", "jobs", "mean", "p50", "p95", "p99", "longest"), [figures("all", outcome)]).show(console)
    rows = [
        (
            f"{one.start:,.0f}-{one.end:,.0f} s",
            f"{one.rate:,.1f}",
            f"{one.mean:.3f}",
            f"{one.p95:.3f}",
            f"{one.wanted:.1f}",
            f"{one.ready:.1f}",
        )
        for one in slices(outcome)
    ]
    Grid("Over time", ("", "requests/s", "queue s, mean", "queue s, p95", "pods wanted", "ready"), rows).show(console)
    rows_a_batch = outcome.rows / outcome.batches if outcome.batches else 0.0
    console.print(
        f"{outcome.batches:,} batches of {rows_a_batch:.1f} rows; workers busy {outcome.busy_seconds:,.0f} s of "
        f"{outcome.pod_seconds:,.0f} pod seconds; at most {outcome.most_replicas()} pods; over after "
        f"{outcome.ended_at:,.0f} s",
        highlight=False,
    )
    if outcome.unclaimed:
        console.print(f"[bold red]{outcome.unclaimed:,} jobs were never claimed.[/]", highlight=False)


def figures(name: str, outcome: Outcome) -> tuple[str, ...]:
    """Return a row of a run's queue seconds."""
    values = (outcome.mean, *(outcome.percentile(percent) for percent in (50, 95, 99, 100)))
    return (name, f"{len(outcome.waits):,}", *(f"{value:.3f}" for value in values))


def csv_text(outcome: Outcome, count: int = 200) -> str:
    """Return the run over time as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["second", "requests_per_second", "queue_seconds_mean", "queue_seconds_p95", "pods", "pods_ready"])
    for one in slices(outcome, count):
        values = (one.start, one.rate, one.mean, one.p95, one.wanted, one.ready)
        writer.writerow([f"{value:.4f}" for value in values])
    return out.getvalue()


def svg(outcome: Outcome, count: int = 200) -> str:
    """Return three plots over time: requests a second, queue seconds (p95), pods (wanted and ready)."""
    cut = slices(outcome, count)
    panels = [
        ("requests/s", [([one.rate for one in cut], COLOURS[0])]),
        (
            "queue seconds, mean and p95",
            [([one.mean for one in cut], COLOURS[0]), ([one.p95 for one in cut], COLOURS[1])],
        ),
        (
            "pods, wanted and ready",
            [([one.wanted for one in cut], COLOURS[0]), ([one.ready for one in cut], COLOURS[2])],
        ),
    ]
    return draw(panels, outcome.ended_at)


def draw(panels: Sequence[tuple[str, Sequence[tuple[Sequence[float], str]]]], seconds: float) -> str:
    """Return panels below each other, each with its title and lines (values at equal distances, colour)."""
    height = len(panels) * (HEIGHT + GAP) + GAP
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {height}" '
            'font-family="system-ui, sans-serif" font-size="12">'
        ),
        f'<rect width="{WIDTH + LEFT + 20}" height="{height}" fill="#fff"/>',
    ]
    for number, (title, lines) in enumerate(panels):
        top = GAP + number * (HEIGHT + GAP)
        highest = max((max(values) for values, _ in lines), default=0.0) or 1.0
        parts.append(f'<text x="{LEFT}" y="{top - 8}">{title}</text>')
        parts.append(f'<path d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#9aa0ab"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{highest:,.4g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{top + HEIGHT}" text-anchor="end">0</text>')
        for values, colour in lines:
            points = (
                f"{LEFT + WIDTH * (n + 0.5) / len(values):.1f},{top + HEIGHT * (1 - value / highest):.1f}"
                for n, value in enumerate(values)
            )
            parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{height - 12}" text-anchor="end">{seconds:,.0f} s</text></svg>')
    return "\n".join(parts) + "\n"
