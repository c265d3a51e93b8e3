"""The paths of `.proto` files, as they are imported.

Rules
-----
* A path is relative, has `/` between its segments, no segment that is empty, `.` or `..`, and ends in `.proto`. All its
  characters are printable and none is a backslash, so that it means the same file on every system and in every message.
* It begins neither with `-` nor with `@`: a compiler takes such an argument for something else than a file.
* No two paths of a registration differ in case only, and none is a folder of another: they could not lie side by side on
  everybody's disk.
* What lies below `google/protobuf` and `certes` is everybody's. A registration cannot bring its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from certes_broker.domain.errors import FieldViolation, Invalid, Reason

MAXIMUM_PATH_LENGTH: Final = 256
"""Characters."""
MAXIMUM_SEGMENT_BYTES: Final = 255
"""Of one segment in UTF-8: what file systems bear."""
SHARED_FOLDERS: Final = ("google/protobuf/", "certes/")


def is_shared(path: str) -> bool:
    """Says whether a path is among those that every broker has, or could get with a later release."""
    return path.lower().startswith(SHARED_FOLDERS)


def check_paths(paths: Iterable[str]) -> None:
    """Refuses a registration's own files by their paths.

    Raises `Invalid` / `SCHEMA_MALFORMED` with a violation for each, `files[i].path` by their order.
    """
    violations: list[FieldViolation] = []
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for index, path in enumerate(paths):
        problem = path_problem(path)
        if problem is None and is_shared(path):
            problem = "what lies below google/protobuf and certes is everybody's and cannot be registered"
        if problem is None:
            problem = _clash(path, seen, folders)
        if problem is not None:
            violations.append(FieldViolation(f"files[{index}].path", f"{shown(path)}: {problem}"))
    if violations:
        raise Invalid(
            Reason.SCHEMA_MALFORMED,
            f"{len(violations)} of the files' paths cannot stand. The first: {violations[0].description}",
            violations=violations[:_MOST_VIOLATIONS],
            hint="Name files as other files import them, such as `meetly/events/v1/invited.proto`.",
        )


def path_problem(path: str) -> str | None:
    """Returns what is wrong with a path by itself, or None."""
    if not path:
        return "the path is empty"
    if len(path) > MAXIMUM_PATH_LENGTH:
        return f"a path has at most {MAXIMUM_PATH_LENGTH} characters"
    if not path.isprintable():
        return "a path has printable characters only"
    if "\\" in path:
        return "'/' stands between the segments of a path, never a backslash"
    if path.startswith(("-", "@")):
        return "a path begins neither with '-' nor with '@'"
    if path.startswith("/") or path[1:2] == ":":
        return "a path is relative: it begins with a folder or a file, not with a root"
    for segment in path.split("/"):
        if segment in {"", ".", ".."}:
            return "a path has no segment that is empty, '.' or '..'"
        if len(segment.encode()) > MAXIMUM_SEGMENT_BYTES:
            return f"a segment of a path has at most {MAXIMUM_SEGMENT_BYTES} bytes"
    if not path.endswith(".proto"):
        return "a path ends in '.proto'"
    return None


def shown(path: str) -> str:
    """Returns a path as a message may show it, whatever it holds."""
    return ascii(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…")


_MOST_VIOLATIONS: Final = 20
_SHOWN: Final = 120


def _clash(path: str, seen: dict[str, str], folders: dict[str, str]) -> str | None:
    """Finds an earlier path beside which this one cannot lie, and remembers this one."""
    folded = path.casefold()
    above = [folded[:at] for at, letter in enumerate(folded) if letter == "/"]
    if folded in seen:
        other = seen[folded]
        return "the path is given twice" if other == path else f"it differs from {shown(other)} in case only"
    if folded in folders:
        return f"it is a folder of {shown(folders[folded])}"
    for folder in above:
        if folder in seen:
            return f"{shown(seen[folder])} is a file, and cannot be a folder too"
    seen[folded] = path
    folders.update(dict.fromkeys(above, path))
    return None
