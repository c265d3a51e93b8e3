"""Follows a page of the documentation literally, in an empty folder: what it says to write is written, what it says to run
is run, and what it shows is compared with what is printed.

Rules
-----
* A block whose first line is a comment with a path (`// schemas/a.proto`, `# certes.toml`) is that file, with this line.
* A `diff` block is applied with `git apply`.
* A `sh` block is run by bash on a terminal of 100 columns. What one begins with `certes serve` is left to the caller, as it does
  not end.
* A `text` block right after it is all that it prints. A line `…` in it stands for any lines. Where the block shows an error,
  the last command must fail; where not, all must succeed.
* What differs from run to run is compared without its value: times of day, timestamps, UUIDs, the names of events.
* Every other block is a mistake of the page: what nobody follows, nobody has proven.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

from scripts.broker_process import look_for_secrets

COLUMNS: Final = 100


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page. `line` is where it begins; `follows` says whether nothing but space parts it from the last."""

    language: str
    text: str
    line: int
    follows: bool


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page, in order."""
    found = []
    end = 0
    for match in _FENCED.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        found.append(Block(match["language"], match["text"], line, follows=not page[end : match.start()].strip()))
        end = match.end()
    return found


def section(page: str, heading: str) -> str:
    """Returns what stands under a heading, up to the next of its level."""
    level = heading.partition(" ")[0]
    _, found, rest = page.partition(f"\n{heading}\n")
    assert found, f"there is no {heading}"
    return re.split(rf"\n{level} ", rest)[0]


class Reader:
    """Somebody who does what a page says.

    `serve` starts or restarts the broker and returns the host and port of its HTTP, which pages spell `127.0.0.1:9600`.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], serve: Callable[[], str]) -> None:
        self._folder = folder
        self._environ = {**environ, "COLUMNS": str(COLUMNS), "TERM": "xterm"}
        self._serve = serve
        self._address = _ADDRESS

    def follow(self, page: Sequence[Block]) -> None:
        """Does all that a page says, and asserts that what it shows is what comes."""
        for block, after in zip_longest(page, page[1:]):
            shown = after.text if after is not None and after.follows and after.language == "text" else None
            match = _NAMED.match(block.text)
            if match is not None:
                self._write(match["path"], block.text)
            elif block.language == "diff":
                self._run(f"git apply <<'END'\n{block.text}END\n", shown, block.line)
            elif block.language == "sh" and block.text.startswith("certes serve"):
                self._address = self._serve()
                self._environ["CERTES_BROKER"] = self._address
            elif block.language == "sh":
                self._run(block.text, shown, block.line)
            else:
                assert block.language == "text", f"line {block.line}: nobody follows a block of {block.language}"

    def _write(self, path: str, text: str) -> None:
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _run(self, script: str, shown: str | None, line: int) -> None:
        code, printed = self._on_terminal(script.replace(_ADDRESS, self._address))
        look_for_secrets(printed, f"what line {line} prints")
        printed = printed.replace(self._address, _ADDRESS)
        fails = shown is not None and "Error: " in shown
        assert (code != 0) is fails, f"line {line} ended with {code}:\n{printed}"
        if shown is not None:
            assert_shown(printed, shown, line)

    def _on_terminal(self, script: str) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as screen:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self._folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
            os.close(theirs)
            written = b""
            try:
                while piece := screen.read(65536):
                    written += piece
            except OSError:
                pass  # A terminal that nobody holds any more ends with an error on Linux.
            return process.wait(), _plain(written.decode())


def assert_shown(printed: str, shown: str, line: int) -> None:
    """Asserts that what a page shows is what was printed, but for what differs from run to run."""
    pattern = "".join(
        r"(?:.*\n)*?" if each == "…" else re.escape(each) + r"\n" for each in _normal(shown).rstrip().split("\n")
    )
    assert re.fullmatch(pattern, f"{_normal(printed).rstrip()}\n"), f"line {line} shows\n{shown}\nand it is\n{printed}"


_FENCED: Final = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED: Final = re.compile(r"(?://|#) (?P<path>[\w./-]+\.(?:proto|toml|json|py))\n")
_ADDRESS: Final = "127.0.0.1:9600"
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_VARYING: Final = (
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIMESTAMP"),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"\bevents/[0-9a-f]{32}\b"), "EVENT"),
)


def _plain(printed: str) -> str:
    """Returns what a person sees of what was written to a terminal, without the spaces at the ends of lines."""
    lines = _CONTROL.sub("", printed).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def _normal(text: str) -> str:
    for varying, name in _VARYING:
        text = varying.sub(name, text)
    return text
