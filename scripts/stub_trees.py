"""Trees of generated stubs: what a folder must hold, how that differs from what it holds, and how it is made to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent


class NotGenerated(Exception):
    """Stubs cannot be made here; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class StubTree:
    """What a folder of generated stubs must hold. Paths are relative to the folder.

    Only names that end in `suffix` are generated; what else lies there is somebody's own.
    """

    language: str
    folder: Path
    files: Mapping[PurePosixPath, bytes]
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What it takes to make a folder what it must be. Paths are relative to the folder."""

    folder: Path
    added: tuple[PurePosixPath, ...]
    changed: tuple[PurePosixPath, ...]
    removed: tuple[PurePosixPath, ...]

    @property
    def any(self) -> bool:
        """Whether something differs."""
        return bool(self.added or self.changed or self.removed)

    def lines(self) -> list[str]:
        """Names every file that differs, one a line."""
        kinds = (("new", self.added), ("changed", self.changed), ("removed", self.removed))
        place = self.folder.relative_to(ROOT).as_posix() if self.folder.is_relative_to(ROOT) else self.folder.name
        return [f"  {kind:8} {place}/{path}" for kind, paths in kinds for path in paths]


def read_tree(folder: Path) -> dict[PurePosixPath, bytes]:
    """Returns the files below `folder` by their path in it, but for what Python itself caches there."""
    return {
        PurePosixPath(path.relative_to(folder).as_posix()): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def compare(wanted: StubTree) -> Changes:
    """Says how a folder differs from what it must hold."""
    present = {path: content for path, content in read_tree(wanted.folder).items() if path.name.endswith(wanted.suffix)}
    return Changes(
        wanted.folder,
        added=tuple(sorted(wanted.files.keys() - present.keys())),
        changed=tuple(
            sorted(path for path in wanted.files.keys() & present.keys() if wanted.files[path] != present[path])
        ),
        removed=tuple(sorted(present.keys() - wanted.files.keys())),
    )


def write(wanted: StubTree, changes: Changes) -> None:
    """Carries out the changes; leaves what is right already untouched, its time of change too."""
    root = wanted.folder
    for path in changes.removed:
        root.joinpath(path).unlink()
        for package in (root / parent for parent in path.parents):
            if package == root or any(entry.name != "__pycache__" for entry in package.iterdir()):
                break
            shutil.rmtree(package)
    for path in (*changes.added, *changes.changed):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(wanted.files[path])
