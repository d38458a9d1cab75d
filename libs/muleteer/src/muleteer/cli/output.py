"""What the commands print: answers on standard output, everything else on standard error."""

import json
import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200


def say(text: str) -> None:
    """Print a line."""
    typer.echo(text)


def hint(text: str) -> None:
    """Print a line for the person, not for a program that reads the output."""
    typer.echo(text, err=True)


def fail(text: str) -> None:
    """Print an error."""
    hint(f"muleteer: {text}")


def print_json(value: Any) -> None:
    """Print a JSON value, indented."""
    say(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print rows of text under column titles, as wide as the terminal; wide where there is none."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
