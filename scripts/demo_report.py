"""What the demo says: acts, tables, and claims of which each turns out true or false."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 100


class Report:
    """Prints as the demo goes on and keeps what was claimed. It reads the same in a terminal and in a file."""

    def __init__(self) -> None:
        # Without a terminal rich would take 80 columns, and break what was laid out for more.
        width = None if sys.stdout.isatty() else WIDTH
        self._console = Console(width=width, highlight=False, emoji=False, markup=False)
        self._claims: list[tuple[str, bool]] = []
        self._acts = 0

    def title(self, text: str) -> None:
        """Prints what this is."""
        self._console.print(Text(text, style="bold"))

    def act(self, title: str) -> None:
        """Begins an act."""
        self._acts += 1
        self._console.print()
        self._console.print(Text(f"{self._acts}. {title}", style="bold cyan"))

    def say(self, text: str) -> None:
        """Prints a sentence."""
        self._console.print(Text(f"   {text}"))

    def fact(self, name: str, value: str) -> None:
        """Prints a name and what it stands for."""
        self._console.print(Text.assemble(f"   {name:<22} ", (value, "dim")))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Prints a table. The first two columns are texts; what follows are short values."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True, overflow="ellipsis")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def claim(self, text: str, holds: bool, instead: object = "") -> None:  # noqa: FBT001  a claim is its text and its truth
        """Says whether something is true; if it is not, `instead` is what was found."""
        self._claims.append((text, holds))
        mark = ("✓", "bold green") if holds else ("✗", "bold red")
        self._console.print(Text.assemble("   ", mark, f" {text}"))
        if not holds and instead != "":
            self._console.print(Text(f"     found: {instead}", style="red"))

    def verdict(self, seconds: float) -> bool:
        """Prints how it came out, with what was false; returns whether all was true. Nothing claimed is not true."""
        false = [text for text, holds in self._claims if not holds]
        self._console.print()
        if false or not self._claims:
            self._console.print(Text(f"✗ {len(false)} of {len(self._claims)} claims are false:", style="bold red"))
            for text in false:
                self._console.print(Text(f"   ✗ {text}"))
        else:
            count = len(self._claims)
            self._console.print(Text(f"✓ All {count} claims are true, in {seconds:.1f} s.", style="bold green"))
        return bool(self._claims) and not false
