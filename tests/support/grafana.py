"""The generated dashboards as Grafana reads them: panels, queries and variables."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHART = Path(__file__).parents[2] / "charts" / "muleteer"
DASHBOARDS = {name: CHART / "dashboards" / f"muleteer-{name}.json" for name in ("overview", "model")}
METRIC = re.compile(r"\bmuleteer_[a-z0-9_]+")
ALL = ".*"


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    dashboard: str
    panel: str
    name: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel} ({self.name})"


def load(dashboard: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARDS[dashboard].read_text())
    return document


def panels(dashboard: str) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without its rows."""
    return [panel for panel in load(dashboard)["panels"] if panel["type"] != "row"]


def variables(dashboard: str) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in load(dashboard)["templating"]["list"]}


def targets(dashboard: str) -> list[Target]:
    """Return the queries of all panels."""
    return [
        Target(dashboard, panel["title"], target["refId"], target["expr"], bool(target.get("instant")))
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def filled(expression: str, scrape_seconds: int, range_seconds: int, **values: str) -> str:
    """Return an expression as Grafana sends it; a variable without a value here is All."""
    out = expression.replace("$__rate_interval", f"{4 * scrape_seconds}s").replace("$__range", f"{range_seconds}s")
    for name in ("namespace", "model", "version", "pool", "field"):
        out = out.replace(f"${name}", values.get(name, ALL))
    assert "$" not in out, f"{expression}: an unknown variable"
    return out
