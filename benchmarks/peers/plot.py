"""The results as one SVG, made by hand: bars for each system, readable on a light and on a dark page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.peers.models_served import PEER_MODELS
from benchmarks.peers.results import Results
from benchmarks.peers.subjects import MULETEER, SUBJECTS
from benchmarks.peers.summary import Key, Row, medians

CONNECTIONS = (64, 256)
MODELS_SHOWN = ("text", "forest", "noop", "fancy")
COST_MODEL = "text"

HEAD = "Muleteer beside its peers: 2 cores, the load generator among them"
WIDTH = 960
MARGIN = 16
PANEL_WIDTH = (WIDTH - 3 * MARGIN) / 2
LABELS = 218
VALUES = 58
TOP = 56
TITLE = 28
ROW = 27
BAR = 9
GAP = 18

# Greys that stand out from white and from nearly black alike, for what shows SVG without media queries.
STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #6e7781 }
.head { font-size: 16px; font-weight: 600 }
.title { font-size: 13px; font-weight: 600 }
.ours { font-weight: 700; fill: #d9480f }
.peer { fill: #6b8bb8 }
.muleteer { fill: #e8590c }
.light { opacity: .5 }
.axis { stroke: #8b949e; stroke-width: 1 }
@media (prefers-color-scheme: light) { text { fill: #24292f } .ours { fill: #bc3a06 } }
@media (prefers-color-scheme: dark) { text { fill: #d0d7de } .ours { fill: #ff8c4b } }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: a line a system, one or two bars a line."""

    title: str
    lines: Sequence[tuple[str, bool, Sequence[float | None]]]
    """Label, whether it is Muleteer, and the values; None where nothing was measured."""
    show: Callable[[float], str]

    @property
    def height(self) -> float:
        """In pixels."""
        return TITLE + ROW * len(self.lines) + GAP


def svg(results: Results) -> str:
    """Return the drawing."""
    rows = medians(results.figures)
    panels = [_rate_panel(rows, name) for name in MODELS_SHOWN] + _cost_panels(rows)
    heights = [max(panel.height for panel in panels[index : index + 2]) for index in range(0, len(panels), 2)]
    height = TOP + sum(heights)
    size = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{HEAD}">',
        f"<style>{STYLE}</style>",
        f'<text class="head" x="{MARGIN}" y="24">{HEAD}</text>',
        _legend(),
    ]
    for index, panel in enumerate(panels):
        line, column = divmod(index, 2)
        left = MARGIN + column * (PANEL_WIDTH + MARGIN)
        parts += _draw(panel, left, TOP + sum(heights[:line]))
    return "\n".join([*parts, "</svg>", ""])


def _rate_panel(rows: dict[Key, Row], name: str) -> Panel:
    title = next(model.title for model in PEER_MODELS if model.name == name)

    def values(subject: str) -> list[float | None]:
        return [row.rate if (row := rows.get((name, subject, count))) else None for count in CONNECTIONS]

    lines = [(one.title, one.name == MULETEER, values(one.name)) for one in SUBJECTS]
    return Panel(f"{title}: requests/s", lines, lambda value: f"{value:,.0f}")


def _cost_panels(rows: dict[Key, Row]) -> list[Panel]:
    found = {one.name: rows.get((COST_MODEL, one.name, CONNECTIONS[0])) for one in SUBJECTS}

    def panel(title: str, value: Callable[[Row], float], show: Callable[[float], str]) -> Panel:
        lines = [
            (one.title, one.name == MULETEER, [value(row) if (row := found[one.name]) else None]) for one in SUBJECTS
        ]
        return Panel(title, lines, show)

    return [
        panel(f"CPU seconds for 1,000 requests ({COST_MODEL}, 64 conn.)", lambda row: row.cpu, "{:.2f}".format),
        panel(f"Memory of all processes, MiB ({COST_MODEL})", lambda row: row.memory, "{:,.0f}".format),
    ]


def _legend() -> str:
    return (
        f'<rect class="peer" x="{MARGIN}" y="35" width="18" height="{BAR}"/>'
        f'<text x="{MARGIN + 24}" y="44">64 connections</text>'
        f'<rect class="peer light" x="{MARGIN + 130}" y="35" width="18" height="{BAR}"/>'
        f'<text x="{MARGIN + 154}" y="44">256 connections</text>'
    )


def _draw(panel: Panel, left: float, top: float) -> list[str]:
    largest = max((value for _, _, values in panel.lines for value in values if value is not None), default=1.0)
    scale = (PANEL_WIDTH - LABELS - VALUES) / largest
    start = left + LABELS
    parts = [f'<text class="title" x="{left:.0f}" y="{top + 14:.0f}">{escape(panel.title)}</text>']
    for index, (label, ours, values) in enumerate(panel.lines):
        middle = top + TITLE + ROW * index + ROW / 2
        kind = "muleteer" if ours else "peer"
        mark = ' class="ours"' if ours else ""
        parts.append(f'<text{mark} x="{start - 8:.0f}" y="{middle + 4:.1f}" text-anchor="end">{escape(label)}</text>')
        if not any(value is not None for value in values):
            parts.append(f'<text x="{start + 6:.0f}" y="{middle + 4:.1f}">not measured</text>')
        for number, value in enumerate(values):
            if value is None:
                continue
            y = middle - BAR * len(values) / 2 + BAR * number + number
            light = " light" if number else ""
            width = max(1.0, value * scale)
            parts.append(
                f'<rect class="{kind}{light}" x="{start:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="1"/>'
            )
            parts.append(
                f'<text{mark} x="{start + width + 5:.1f}" y="{y + BAR - 0.5:.1f}" style="font-size:10px">'
                f"{escape(panel.show(value))}</text>"
            )
    bottom = top + TITLE + ROW * len(panel.lines)
    parts.append(f'<line class="axis" x1="{start:.1f}" x2="{start:.1f}" y1="{top + TITLE - 2:.1f}" y2="{bottom:.1f}"/>')
    return parts
