"""What both dashboards have around their panels: variables, links, alerts as annotations, and the JSON itself."""

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from muleteer_dashboards.panels import DATASOURCE, Panel
from muleteer_dashboards.promql import NAMESPACE

TAG = "muleteer"
GRAFANA = "10.1.0"
"""The Grafana whose panels the library describes; newer ones read them."""
FIRING = f'ALERTS{{{NAMESPACE}, alertname=~"Muleteer.+", alertstate="firing"}}'

Rows = Sequence[tuple[builders.Row, Sequence[Panel]]]


def choice(
    name: str,
    label: str,
    description: str,
    query: str,
    *,
    several: bool = True,
    sort: models.VariableSort | None = None,
) -> builders.QueryVariable:
    """Return a variable that lists a label's values.

    With ``several`` any number can be chosen, at first all of them. All is the expression ``.*``, so that it also means
    series that do not have the label: a Muleteer outside Kubernetes has no namespace.
    """
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(sort or models.VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        variable.all_value(".*").current(models.VariableOption(text="All", value="$__all", selected=True))
    return variable


def namespaces() -> builders.QueryVariable:
    """Return the variable of namespaces in which a gateway runs."""
    return choice(
        "namespace",
        "Namespace",
        "Namespaces whose gateways are shown; All includes series without a namespace.",
        "label_values(muleteer_redis_up, namespace)",
    )


def document(
    uid: str, title: str, description: str, variables: Sequence[builders.QueryVariable], rows: Rows
) -> builders.Dashboard:
    """Return a dashboard with numbered panels, so that a link to a panel stays right while its place does."""
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Muleteer")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
            .target_blank(False)
            .tooltip("The other dashboard of Muleteer, with the same time and variables")
            .icon("external link")
        )
        .annotation(
            builders.AnnotationQuery()
            .name("Alerts")
            .datasource(DATASOURCE)
            .enable(True)
            .hide(False)
            .icon_color("red")
            .expr(FIRING)
        )
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus").multi(False))
    )
    for variable in variables:
        made.with_variable(variable)
    number = 0
    for row, panels in rows:
        number += 1
        made.with_row(row.id(number))
        for panel in panels:
            number += 1
            made.with_panel(panel.id(number))
    return made


def render(made: builders.Dashboard) -> str:
    """Return a dashboard as JSON, the same text for the same dashboard."""
    content: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    content["id"] = None  # Grafana gives it one
    for panel in content["panels"]:
        if panel["type"] != "row":
            panel["pluginVersion"] = GRAFANA  # without it Grafana takes the panel for a very old one
    for annotation in content["annotations"]["list"]:
        annotation["titleFormat"] = "{{alertname}}"  # the library has no word for it
        annotation["textFormat"] = "{{severity}} {{model}} {{version}} {{pool}} {{pod}}"
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
