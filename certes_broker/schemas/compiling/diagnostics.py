"""What the compiler says about files, as violations of the request that brought them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from certes_broker.domain.errors import FieldViolation, Invalid, Reason

MOST_VIOLATIONS: Final = 20


def malformed(messages: str, paths: Sequence[str]) -> Invalid:
    """Builds the refusal of files that do not compile.

    `paths` are those of the request, in its order. Each error becomes a violation of `files[i]`, described as
    `path:line:column: text`, or `path: text` where the compiler knows no place.
    """
    found = list(_errors(messages, paths)) or [FieldViolation("files", _shown(messages) or "they do not compile")]
    more = len(found) - MOST_VIOLATIONS
    rest = f" The first {MOST_VIOLATIONS} are named." if more > 0 else ""
    hint = _HINT if any("was not found" in violation.description for violation in found) else ""
    return Invalid(
        Reason.SCHEMA_MALFORMED,
        f"the schemas do not compile, {len(found)} error{'s' if len(found) > 1 else ''}.{rest} {found[0].description}",
        metadata={"errors": str(len(found))},
        violations=found[:MOST_VIOLATIONS],
        hint=hint,
    )


_PLACED: Final = re.compile(r"(?P<path>.+?):(?P<line>[0-9]+):(?P<column>[0-9]+): (?P<text>.*)")
_UNPLACED: Final = re.compile(r"(?P<path>.+?\.proto): (?P<text>.*)")
_LOGGED: Final = re.compile(r"[IWEF][0-9]{4} |WARNING: All log messages before|terminate called|  what\(\):")
_LONGEST: Final = 400
_HINT: Final = (
    "Imports are found among the files that are given, and in what every broker has: google/protobuf, "
    "certes/v1/options.proto and the community catalogue."
)


def _errors(messages: str, paths: Sequence[str]) -> Iterator[FieldViolation]:
    places = {path: index for index, path in enumerate(paths)}
    for line in messages.splitlines():
        if _LOGGED.match(line):
            continue
        match = _PLACED.fullmatch(line) or _UNPLACED.fullmatch(line)
        # What is said of another file is said again of the one that imports it.
        if match is None or match["path"] not in places or match["text"].startswith("warning: "):
            continue
        yield FieldViolation(f"files[{places[match['path']]}]", _shown(line))


def _shown(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text.strip())
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}…"
