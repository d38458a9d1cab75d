"""The kinds of panel that both dashboards use, each with its title, description, unit and legend."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap, stat, table, timeseries
from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.models import common, prometheus
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

REQUESTS_A_SECOND = "reqps"
PER_SECOND = "ops"
ROWS_A_SECOND = "rowsps"
SECONDS = "s"
SHARE = "percentunit"
BYTES = "bytes"
NUMBER = "short"

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"

Steps = Sequence[tuple[float | None, str]]
Panel = timeseries.Panel | stat.Panel | table.Panel | heatmap.Panel


@dataclass(frozen=True)
class Query:
    """One expression of a panel and how its series are named."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Column:
    """One value column of a table: its expression, heading, unit and colours."""

    heading: str
    expression: str
    unit: str = NUMBER
    decimals: int | None = None
    steps: Steps = ()


def thresholds(steps: Steps) -> dashboard_builders.ThresholdsConfig:
    """Return threshold steps: each colour holds from its value on, the first one from below."""
    return (
        dashboard_builders.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def words(values: dict[str, tuple[str, str]]) -> list[models.ValueMapping]:
    """Return value mappings: a value's text and colour."""
    return [
        models.ValueMap(
            options={
                value: models.ValueMappingResult(text=text, color=color, index=index)
                for index, (value, (text, color)) in enumerate(values.items())
            }
        )
    ]


def number(
    title: str,
    description: str,
    unit: str,
    expression: str,
    steps: Steps = ((None, BLUE),),
    *,
    span: int = 3,
    mappings: list[models.ValueMapping] | None = None,
    no_value: str = "-",
    decimals: int | None = None,
    link: str = "",
) -> stat.Panel:
    """Return one big number with its course behind it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .no_value(no_value)
        .thresholds(thresholds(steps))
        .color_scheme(dashboard_builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_mode(common.BigValueColorMode.BACKGROUND if len(steps) > 1 else common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .height(4)
        .span(span)
        .with_target(_target("A", Query(expression, title)))
    )
    if mappings:
        panel.mappings(mappings).graph_mode(common.BigValueGraphMode.NONE)
    if decimals is not None:
        panel.decimals(decimals)
    if link:
        panel.data_links([dashboard_builders.DashboardLink("Look").url(link)])
    return panel


def course(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 8,
    stacked: Literal["", "normal", "percent"] = "",
    steps: Steps = (),
    legend: Literal["list", "table"] = "list",
    stepped: bool = False,
    bottom: float | None = 0,
    top: float | None = None,
) -> timeseries.Panel:
    """Return a panel of lines over time, from zero up: few things that are measured here can be negative."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .height(8)
        .span(span)
        .line_width(1)
        .fill_opacity(40 if stacked else 10)
        .show_points(common.VisibilityMode.NEVER)
        .tooltip(
            common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
        )
        .legend(_legend(legend))
        .targets([_target(chr(ord("A") + index), query) for index, query in enumerate(queries)])
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().group("A").mode(common.StackingMode(stacked)))
    if stepped:
        panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    if bottom is not None:
        panel.min(bottom)
    if top is not None:
        panel.max(top)
    if steps:
        panel.thresholds(thresholds(steps)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.LINE)
        )
    return panel


def heat_map(title: str, description: str, unit: str, buckets: str, *, span: int = 8) -> heatmap.Panel:
    """Return a heat map of a histogram's buckets over time."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .height(8)
        .span(span)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .fill("dark-orange")
            .exponent(0.5)
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(common.HeatmapCellLayout.LE))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_tooltip()
        .show_legend()
        .with_target(_target("A", Query(buckets, "{{le}}")).format(prometheus.PromQueryFormat.HEATMAP))
    )


def columns(
    title: str,
    description: str,
    labels: dict[str, str],
    *values: Column,
    span: int = 24,
    height: int = 8,
    link: tuple[str, str] | None = None,
    sort_by: str = "",
) -> table.Panel:
    """Return a table of instant values: a row for each set of ``labels`` (label -> heading), a column a value.

    ``link`` is (title, URL) of what a click on the first label opens.
    """
    names = [chr(ord("A") + index) for index in range(len(values))]
    headings = {f"Value #{name}": value.heading for name, value in zip(names, values, strict=True)}
    if len(values) == 1:
        headings = {"Value": values[0].heading}
    order = {name: index for index, name in enumerate([*labels, *headings])}
    panel = (
        table.Panel()
        .show_header(True)
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(NUMBER)
        .height(height)
        .span(span)
        .targets(
            [
                _target(name, Query(value.expression)).instant().format(prometheus.PromQueryFormat.TABLE)
                for name, value in zip(names, values, strict=True)
            ]
        )
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": order,
                    "renameByName": {**labels, **headings},
                },
            )
        )
    )
    for value in values:
        panel.override_by_name(value.heading, _column_properties(value))
    if link is not None:
        first = next(iter(labels.values()))
        links = [{"title": link[0], "url": link[1]}]
        panel.override_by_name(first, [models.DynamicConfigValue(id_val="links", value=links)])
    if sort_by:
        panel.sort_by([common_builders.TableSortByFieldState().display_name(sort_by).desc(True)])
    return panel


def _column_properties(column: Column) -> list[models.DynamicConfigValue]:
    out = [models.DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.decimals is not None:
        out.append(models.DynamicConfigValue(id_val="decimals", value=column.decimals))
    if column.steps:
        steps: list[dict[str, Any]] = [{"value": value, "color": color} for value, color in column.steps]
        out.append(models.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": steps}))
        out.append(
            models.DynamicConfigValue(
                id_val="custom.cellOptions", value={"type": "color-background", "mode": "gradient"}
            )
        )
    return out


def _legend(mode: Literal["list", "table"]) -> common_builders.VizLegendOptions:
    legend = common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    if mode == "table":
        return legend.display_mode(common.LegendDisplayMode.TABLE).calcs(["mean", "max", "lastNotNull"])
    return legend.display_mode(common.LegendDisplayMode.LIST).calcs([])


def _target(name: str, query: Query) -> prometheus_builders.Dataquery:
    target = prometheus_builders.Dataquery().ref_id(name).datasource(DATASOURCE).expr(query.expression).range()
    target.editor_mode(prometheus.QueryEditorMode.CODE)
    return target.legend_format(query.legend) if query.legend else target
