"""Takes the comments of values.yaml into the README's table and into the descriptions of values.schema.json.

``python charts/muleteer/docs.py`` writes both; with ``--check`` it changes nothing and ends with 1 if they differ.
"""  # noqa: INP001 - a script beside the chart, not a package

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent
BEGIN, END = "<!-- values: made by docs.py -->\n", "<!-- end of values -->\n"
WIDTH = 120
LONGEST_DEFAULT = 100


@dataclass(frozen=True)
class Value:
    """One key of values.yaml."""

    path: tuple[str, ...]
    comment: str
    default: Any
    documented_whole: bool
    """Its own keys have no comments: they are not Muleteer's, or examples."""


def read_values(text: str) -> list[Value]:
    """Return the keys of values.yaml that have a comment. Raises SystemExit when one of several has none."""
    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        raise SystemExit("values.yaml is not a mapping.")
    return list(_walk(root, (), text.splitlines()))


def _walk(node: yaml.MappingNode, path: tuple[str, ...], lines: list[str]) -> Iterator[Value]:
    for key, value in node.value:
        name = (*path, key.value)
        comment = _comment(lines, key.start_mark.line)
        if not comment:
            raise SystemExit(f"values.yaml: {'.'.join(name)} has no comment, but its neighbours have.")
        whole = not isinstance(value, yaml.MappingNode) or _is_whole(value, lines)
        yield Value(name, comment, yaml.safe_load(yaml.serialize(value)), whole)
        if isinstance(value, yaml.MappingNode) and not whole:
            yield from _walk(value, name, lines)


def _is_whole(node: yaml.MappingNode, lines: list[str]) -> bool:
    return node.flow_style or not _comment(lines, node.value[0][0].start_mark.line)


def _comment(lines: list[str], line: int) -> str:
    """Return the comment that stands right above a line, as one paragraph."""
    found: list[str] = []
    for text in reversed(lines[:line]):
        if not text.lstrip().startswith("#"):
            break
        found.insert(0, text.strip().removeprefix("#").strip())
    return " ".join(found)


def table(values: list[Value]) -> str:
    """Return the README's table."""
    rows = ["| value | default | |\n", "|---|---|---|\n"]
    for value in values:
        if value.documented_whole:
            default = json.dumps(value.default, ensure_ascii=False)
            shown = f"`{default}`" if len(default) <= LONGEST_DEFAULT else "see `values.yaml`"
            comment = value.comment.replace("|", "\\|")
            rows.append(f"| `{'.'.join(value.path)}` | {shown} | {comment} |\n")
    return "".join(rows)


def describe(schema: dict[str, Any], values: list[Value]) -> None:
    """Put each comment into the schema as the description of its key. Raises SystemExit when a key is not there."""
    for value in values:
        place = schema
        for name in value.path:
            place = _resolve(schema, place).get("properties", {}).get(name)
            if place is None:
                raise SystemExit(f"values.schema.json does not have {'.'.join(value.path)}.")
        rest = {key: item for key, item in place.items() if key != "description"}
        place.clear()
        place.update({"description": value.comment, **rest})


def _resolve(schema: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference, alone or as the first of ``allOf``."""
    reference = place.get("allOf", [place])[0].get("$ref")
    if reference is None:
        return place
    definition: dict[str, Any] = schema["definitions"][reference.rpartition("/")[2]]
    return definition


def layout(value: Any, indent: int = 0, used: int = 0) -> str:
    """Return JSON in which whatever fits is on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if indent + used + len(line) < WIDTH or not isinstance(value, dict | list) or not value:
        return line
    pad = " " * (indent + 2)
    if isinstance(value, list):
        return "[\n" + ",\n".join(pad + layout(item, indent + 2) for item in value) + f"\n{' ' * indent}]"
    heads = {f"{json.dumps(key)}: ": item for key, item in value.items()}
    body = ",\n".join(pad + head + layout(item, indent + 2, len(head)) for head, item in heads.items())
    return f"{{\n{body}\n{' ' * indent}}}"


def main(check: bool) -> int:
    """Write, or compare, README.md and values.schema.json."""
    values = read_values((CHART / "values.yaml").read_text())
    readme, schema = CHART / "README.md", CHART / "values.schema.json"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    document = json.loads(schema.read_text())
    describe(document, values)
    wanted = {readme: f"{before}{BEGIN}\n{table(values)}\n{END}{after}", schema: layout(document) + "\n"}
    stale = [path for path, text in wanted.items() if path.read_text() != text]
    if check:
        for path in stale:
            sys.stderr.write(f"{path.name} does not follow values.yaml: run `make chart-docs`.\n")
        return bool(stale)
    for path in stale:
        path.write_text(wanted[path])
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
