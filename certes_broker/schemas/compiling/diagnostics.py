"""What the compiler says about files, as violations of the request that brought them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from certes_broker.domain.errors import FieldViolation, Invalid, Reason

MOST_VIOLATIONS: Final = 20


def malformed(verdict: str, violations: Sequence[FieldViolation], *, hint: str = "") -> Invalid:
    """Builds the refusal of schemas; `verdict` is as in `the schemas do not compile`. Names the first twenty faults."""
    count = len(violations)
    first = f" The first {MOST_VIOLATIONS} are named." if count > MOST_VIOLATIONS else ""
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        f"{verdict}: {count} error{'s' if count > 1 else ''}.{first} {violations[0].description}",
        metadata={"errors": str(count)},
        violations=violations[:MOST_VIOLATIONS],
        hint=hint,
    )


def compiler_errors(messages: str, fields: Mapping[str, str]) -> list[FieldViolation]:
    """Returns what the compiler found wrong, described as `path:line:column: text`, or `path: text` where it knows no place.

    `fields` are the paths in the request, by the paths of the files. At least one violation is returned.
    """
    found = list(_said(messages, fields, warnings=False))
    if found and all(_PLACED.fullmatch(violation.description) is None for violation in found):
        # The linker knows no places, and the compiler does, which took the same for a small matter.
        found = [*_said(messages, fields, warnings=True), *found]
    return found or [FieldViolation("files", _shown(messages) or "they do not compile")]


def import_hint(violations: Sequence[FieldViolation]) -> str:
    """Returns where imports are found, if one was not, or nothing."""
    return _HINT if any("was not found" in violation.description for violation in violations) else ""


_PLACED: Final = re.compile(r"(?P<path>.+?):(?P<line>[0-9]+):(?P<column>[0-9]+): (?P<text>.*)")
_UNPLACED: Final = re.compile(r"(?P<path>.+?\.proto): (?P<text>.*)")
_WARNING: Final = "warning: "
_UNUSED: Final = re.compile(r"warning: Import .* is unused\.")
_LONGEST: Final = 400
_HINT: Final = (
    "Imports are found among the files that are given, and in what every broker has: google/protobuf, "
    "certes/v1/options.proto and the community catalogue."
)


def _said(messages: str, fields: Mapping[str, str], *, warnings: bool) -> Iterator[FieldViolation]:
    for line in messages.splitlines():
        match = _PLACED.fullmatch(line) or _UNPLACED.fullmatch(line)
        # What is said of another file is said again of the one that imports it. The compiler's own log has no paths.
        if match is None or match["path"] not in fields:
            continue
        if match["text"].startswith(_WARNING) is warnings and not _UNUSED.fullmatch(match["text"]):
            yield FieldViolation(fields[match["path"]], _shown(line))


def _shown(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text.strip())
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}…"
