"""The rules as `docs/reference/compatibility.md` documents them: read from the page, not from the table behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[4] / "docs" / "reference" / "compatibility.md"


@dataclass(frozen=True)
class DocumentedExample:
    rule: str
    breaking: bool
    title: str
    beside: frozenset[str]
    before: str | Mapping[str, str]
    after: str | Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.rule}: {self.title}"


def documented_verdicts() -> dict[str, bool]:
    """Returns what the overview says of each rule: whether it is breaking."""
    rows = re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| (yes|no) \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {rule: verdict == "yes" for rule, verdict in rows}


def documented_examples() -> Iterator[DocumentedExample]:
    """Returns every example of the page."""
    _, *rules = re.split(r"^### `(\w+)`\n\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for rule, text in zip(rules[::2], rules[1::2], strict=True):
        verdict = re.match(r"\*\*(Breaking|Compatible)\.\*\* ", text)
        assert verdict, f"{rule} has no verdict"
        for title, before, after in _EXAMPLE.findall(text):
            title, _, beside = title.partition(", which is also ")
            others = frozenset(re.findall(r"`(\w+)`", beside))
            yield DocumentedExample(rule, verdict[1] == "Breaking", title, others, _files(before), _files(after))


_EXAMPLE = re.compile(
    r"^Example: ([^\n]+)\n\n```proto\n// before\n(.*?)```\n\n```proto\n// after\n(.*?)```", re.MULTILINE | re.DOTALL
)


def _files(text: str) -> str | Mapping[str, str]:
    head, *files = re.split(r"^// file: (\S+)\n", text, flags=re.MULTILINE)
    return dict(zip(files[::2], files[1::2], strict=True)) if not head else text
