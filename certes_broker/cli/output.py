"""What commands print: tables for a person, JSON for a program.

Much of it was written by strangers, and a terminal must not be told to do anything by it: control characters are shown as
such, and never sent.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import click


def print_json(document: object, *, indent: int | None = 2) -> None:
    """Prints JSON. Without an indent it is one line, and seen at once by whoever reads the pipe."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    click.echo(_UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def plain(text: str) -> str:
    """Returns a text as it can be shown, with a sign in the place of each character that is none to be seen."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Prints rows under their columns, or the sentence `empty` if there are none.

    On a terminal it is a table that fits; in a pipe, lines with tabs between the cells, uncut.
    """
    if not rows:
        click.echo(empty, err=True)
        return
    rows = [[plain(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            click.echo("\t".join(cell.replace("\n", " ") for cell in row))
        return
    # Imported here because only a terminal needs it.
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    table = Table(*columns, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    # Names stay whole, as they are there to be copied, unless they would leave less than a quarter for the rest.
    room = console.width * 3 // 4
    for column, cells in zip(table.columns, zip(columns, *rows, strict=True), strict=True):
        room -= 3 + max(len(line) for cell in cells for line in cell.split("\n"))
        column.no_wrap = room >= 0
        if room < 0:
            break
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    console.print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Prints names and values, aligned; empty values are left out."""
    width = max((len(name) for name, value in facts if value), default=0)
    for name, value in facts:
        if value:
            label = click.style(f"{name:<{width}}", dim=True)
            click.echo(f"{label}  {plain(value).replace(chr(10), chr(10) + ' ' * (width + 2))}")


def compact(document: Any) -> str:
    """Spells JSON on one line."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


_UNESCAPED: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON need not escape, and terminals act upon: control characters beyond ASCII's, and those that turn the direction."""
