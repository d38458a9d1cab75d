"""The results as Markdown."""

from collections.abc import Sequence
from typing import Any

from benchmarks.peers.memory import FLAT
from benchmarks.peers.models_served import PEER_MODELS, PeerModel
from benchmarks.peers.results import Results
from benchmarks.peers.subjects import MULETEER, SUBJECTS, Subject
from benchmarks.peers.summary import TITLES, Key, Row, Target, best_peer, losses, medians, targets
from benchmarks.report import Grid

ALL_CONNECTIONS = (1, 64, 256)
VERDICT = {True: "held", False: "**missed**", None: "not measured"}


def markdown(results: Results) -> str:
    """Return the whole page."""
    rows = medians(results.figures)
    parts = ["# Muleteer beside its peers", "", _intro(results), ""]
    gaps = missing(results)
    if gaps:
        parts += ["**This set of results is partial.** " + " ".join(gaps), ""]
    parts += [_targets(targets(results)).markdown()]
    parts += ["### Where Muleteer is not the fastest", "", *_losses(results, rows), ""]
    for model in PEER_MODELS:
        if any(key[0] == model.name for key in rows) or any(key.endswith(f" {model.name}") for key in results.reasons):
            parts += [_rates(results, rows, model).markdown(), _costs(rows, model).markdown()]
    parts += [_kills(results).markdown(), _memory(results).markdown(), _subjects().markdown(), METHOD]
    return "\n".join(parts).rstrip() + "\n"


def missing(results: Results) -> list[str]:
    """Return a sentence for each part of the whole benchmark that the results lack."""
    sentences = []
    speed = results.about.get("speed", {})
    for word, wanted, key in (
        ("systems", [subject.name for subject in SUBJECTS], "subjects"),
        ("models", [model.name for model in PEER_MODELS], "models"),
        ("connections", list(ALL_CONNECTIONS), "connections"),
    ):
        lacking = [str(one) for one in wanted if one not in speed.get(key, [])]
        if lacking and speed:
            sentences.append(f"Not measured for speed: {word} {', '.join(lacking)}.")
    killed = results.about.get("kill", {}).get("subjects", [])
    lacking = [subject.name for subject in SUBJECTS if subject.name not in killed]
    if lacking and killed:
        sentences.append(f"Not measured for the kill: systems {', '.join(lacking)}.")
    for section, word in (("speed", "The speed"), ("kill", "The kill"), ("memory", "Memory over time")):
        about = results.about.get(section)
        if about is None:
            sentences.append(f"{word} was not measured.")
        elif not about["complete"]:
            sentences.append(f"{word} was not measured to the end.")
    return sentences


def _intro(results: Results) -> str:
    sentences = []
    if about := results.about.get("speed"):
        sentences.append(
            f"Medians of {about['rounds']} round{'s' * (about['rounds'] > 1)} of {about['seconds']:g} s, all systems "
            f"and models interleaved in an order shuffled with seed {about['seed']}; load by wrk, 1 thread, on the "
            f"same machine. {_machine(about)}"
        )
        if about.get("own_forests"):
            sentences.append("The others call scikit-learn's own random forest here, as one does without Muleteer.")
    return " ".join(sentences) or "No speed was measured."


def _machine(about: dict[str, Any]) -> str:
    return (
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['system']}, "
        f"Python {about['python']}."
    )


def _targets(found: Sequence[Target]) -> Grid:
    lines = [(one.what, one.wanted, one.measured, VERDICT[one.held]) for one in found]
    return Grid("What was wanted", ("", "wanted", "measured", ""), lines)


def _losses(results: Results, rows: dict[Key, Row]) -> list[str]:
    if not any(subject == MULETEER for _, subject, _ in rows):
        return ["Not measured."]
    lines = [f"- {line}" for line in losses(rows)]
    killed = {one.subject: one for one in results.kills}
    ours = killed.get(MULETEER)
    for one in results.kills:
        if ours is None or one is ours or one.recovered_seconds is None:
            continue
        if ours.recovered_seconds is None or one.recovered_seconds < ours.recovered_seconds:
            lines.append(
                f"- after a kill -9 {TITLES[one.subject]} is back to 80% after {_seconds(one.recovered_seconds)} "
                f"({one.failures:,} failed requests), Muleteer after {_seconds(ours.recovered_seconds)} "
                f"({ours.failures:,} failed)"
            )
    return lines or ["Nowhere in these results."]


def _rates(results: Results, rows: dict[Key, Row], model: PeerModel) -> Grid:
    counts = _counts(rows)
    head = [""]
    for count in counts:
        head += [f"{count} conn.: requests/s", "p50 ms", "p99 ms", "errors"]
    head += [f"Muleteer / it at {count}" for count in counts]
    return Grid(f"{model.title} ({model.name})", head, [_rate_line(results, rows, model, one) for one in SUBJECTS])


def _rate_line(results: Results, rows: dict[Key, Row], model: PeerModel, subject: Subject) -> list[str]:
    counts, line = _counts(rows), [_label(results, rows, model, subject)]
    for count in counts:
        row = rows.get((model.name, subject.name, count))
        best = " (best peer)" if subject.name == best_peer(rows, model.name, count) else ""
        line += (
            ["", "", "", ""]
            if row is None
            else [f"{row.rate:,.0f}{best}", f"{row.p50:,.1f}", f"{row.p99:,.1f}", f"{row.errors:,}"]
        )
    for count in counts:
        row, ours = rows.get((model.name, subject.name, count)), rows.get((model.name, MULETEER, count))
        line.append(f"{ours.rate / row.rate:.2f}x" if row and ours and subject.name != MULETEER else "")
    return line


def _label(results: Results, rows: dict[Key, Row], model: PeerModel, subject: Subject) -> str:
    label = subject.title
    rounds = {row.rounds for (name, one, _), row in rows.items() if (name, one) == (model.name, subject.name)}
    most = results.about.get("speed", {}).get("rounds", 1)
    if rounds and max(rounds) < most:
        label += f" ({max(rounds)} round{'s' * (max(rounds) > 1)})"
    why = results.reason("speed", subject.name, model.name)
    return f"{label}: {why}" if why else label


def _costs(rows: dict[Key, Row], model: PeerModel) -> Grid:
    counts = _counts(rows)
    head = ["", *(f"CPU s / 1,000 at {count}" for count in counts), *(f"rows a call at {count}" for count in counts)]
    head += ["memory MiB", "Muleteer's CPU / its at 64", "Muleteer's memory / its"]
    lines = []
    for subject in SUBJECTS:
        found = [rows.get((model.name, subject.name, count)) for count in counts]
        known = [row for row in found if row is not None]
        if known:
            cells = [f"{row.cpu:.3f}" if row else "" for row in found]
            cells += [f"{row.rows_a_call:.1f}" if row else "" for row in found]
            cells += [f"{known[0].memory:,.0f}", *_ratios(rows, model, subject)]
            lines.append([subject.title, *cells])
    return Grid(f"{model.name}: CPU and memory of the whole process tree, rows in a call of the model", head, lines)


def _ratios(rows: dict[Key, Row], model: PeerModel, subject: Subject) -> list[str]:
    count = 64 if 64 in _counts(rows) else _counts(rows)[-1]
    row, ours = rows.get((model.name, subject.name, count)), rows.get((model.name, MULETEER, count))
    if row is None or ours is None or subject.name == MULETEER:
        return ["", ""]
    return [f"{ours.cpu / row.cpu:.2f}x", f"{ours.memory / row.memory:.2f}x"]


def _kills(results: Results) -> Grid:
    head = ("", "killed", "requests/s before", "failed requests", "seconds until 80% is back", "how they failed")
    lines = []
    for subject in SUBJECTS:
        why = next((why for key, why in results.reasons.items() if key.startswith(f"kill {subject.name} ")), "")
        if why:
            lines.append([f"{subject.title}: {why}", "", "", "", "", ""])
        for one in results.kills:
            if one.subject == subject.name:
                how = ", ".join(f"{count:,} {word}" for word, count in sorted(one.failed.items()))
                cells = [subject.worker_word, f"{one.rate_before:,.0f}", f"{one.failures:,}"]
                lines.append([subject.title, *cells, _seconds(one.recovered_seconds), how])
    model = results.kills[0].model if results.kills else "none"
    return Grid(f"kill -9 of one worker under load, 64 connections (model: {model})", head, lines)


def _seconds(value: float | None) -> str:
    return "not within 12 s" if value is None else f"{value:.1f} s"


def _memory(results: Results) -> Grid:
    longest = max((len(one.mib) for one in results.memory), default=1)
    head = ["", *(f"min {minute}" for minute in range(longest)), "last / minute 1", ""]
    lines = []
    for one in results.memory:
        cells = [f"{value:,.0f}" for value in one.mib] + [""] * (longest - len(one.mib))
        lines.append([TITLES[one.subject], *cells, f"{one.growth:.2f}x", "flat" if one.growth <= FLAT else "grows"])
    return Grid("Memory (MiB) at each minute of load, text, 64 connections", head, lines)


def _subjects() -> Grid:
    return Grid("The systems", ("", "set up as"), [(one.title, one.about) for one in SUBJECTS])


def _counts(rows: dict[Key, Row]) -> list[int]:
    return sorted({count for _, _, count in rows})


METHOD = (
    "Every system holds the very same artifact through the same loader, with one BLAS and OpenMP thread. Before a load "
    "64 answers, asked for at once so that batches form, are compared with the model's own. *rows a call* counts what "
    "one call of the model got: 1.0 means no batching. Memory is the proportional set size (PSS) of the process tree, "
    "supervisors and Redis or HAProxy included, after the last load; CPU is user and system time of the same tree. A "
    "call of the model runs alone in its process; FancyModel sleeps its 5 ms."
)
