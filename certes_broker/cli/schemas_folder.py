"""Writes files below a folder, whatever their paths say.

Rules
-----
* Nothing is written outside the folder: paths with `..` or a root are refused, and so is what would pass a symbolic link.
* All paths are looked at before anything is written.
* A file that is there already stays, unless it is said that it may be replaced. One with the same content needs no writing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from certes_broker.schemas.compiling.paths import path_problem, shown


class UnsafePath(Exception):
    """A path that is never written to; the message names it and says why."""


class Obstructed(Exception):
    """What lies in the folder is in the way of a path; the message names both."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done below a folder. `new` is not there, `other` is there with another content, `same` as it is to be."""

    folder: Path
    new: Mapping[str, bytes]
    other: Mapping[str, bytes]
    same: Mapping[str, bytes]

    def write(self, *, replace: bool = False) -> list[str]:
        """Writes what is new, and with `replace` what has another content; returns the paths that were written."""
        files = {**self.new, **(self.other if replace else {})}
        for path, content in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return sorted(files)


def plan(folder: Path, files: Mapping[str, bytes]) -> Plan:
    """Says what it takes to have files below a folder; writes nothing. Raises `UnsafePath` and `Obstructed`."""
    _check(files)
    found: dict[str, dict[str, bytes]] = {"new": {}, "other": {}, "same": {}}
    root = folder.resolve()
    for path, content in files.items():
        found[_state(root, path, content)][path] = content
    return Plan(folder, found["new"], found["other"], found["same"])


_SUFFIXES: Final = (".proto", ".binpb", ".yaml")


def _check(files: Mapping[str, bytes]) -> None:
    seen: dict[str, str] = {}
    for path in sorted(files, key=str.casefold):
        suffix = PurePosixPath(path).suffix
        problem = (
            path_problem(f"{path.removesuffix(suffix)}.proto")
            if suffix in _SUFFIXES
            else f"it does not end in {_SUFFIXES[0]}"
        )
        if problem is None:
            problem = next(_clashes(path, seen), None)
        if problem is not None:
            raise UnsafePath(f"{shown(path)}: {problem}")
        seen[path.casefold()] = path


def _clashes(path: str, seen: Mapping[str, str]) -> Iterator[str]:
    """Yields the reasons why a path cannot lie beside those that come before it in order."""
    folded = path.casefold()
    if folded in seen:
        yield f"it differs from {shown(seen[folded])} in case only"
    for above in PurePosixPath(folded).parents:
        if str(above) in seen:
            yield f"{shown(seen[str(above)])} is a file, and cannot be a folder too"


def _state(root: Path, path: str, content: bytes) -> str:
    """Says whether a file is `new`, `other` or the `same`."""
    target = root / path
    for place in (target, *target.parents):
        if place == root:
            break
        if place.is_symlink():
            raise Obstructed(f"{shown(path)} is not written: {place} is a symbolic link, which could lead anywhere")
        if place != target and place.exists() and not place.is_dir():
            raise Obstructed(f"{shown(path)} is not written: {place} is no folder")
    if not target.exists():
        return "new"
    if not target.is_file():
        raise Obstructed(f"{shown(path)} is not written: {target} is there, and is no file")
    return "same" if target.read_bytes() == content else "other"
