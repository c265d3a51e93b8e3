"""The `.proto` files of a project: which are meant, and the paths by which they import each other.

Rules
-----
* A path is relative to a *root*: the nearest folder above the file that has a `buf.yaml`, or that a `buf.yaml` names as a
  module of its own. Where there is none, the root is the folder that was named, or for a file the current one.
* Where a `buf.yaml` names modules, files beside them belong to none, and are left out.
* What every broker has (`google/protobuf`, `certes`) is left out: a project may have copies of it for its own tools.
* So are hidden folders and `node_modules`, which hold the projects of others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from certes_broker.schemas.compiling.limits import MAXIMUM_SOURCE_BYTES
from certes_broker.schemas.compiling.paths import is_shared

BUF_FILE: Final = "buf.yaml"


@dataclass(frozen=True, slots=True)
class ProtoSource:
    """One file: the path by which others import it, where it lies, as whoever called may open it, and its text."""

    path: str
    file: Path
    content: str


def collect(places: Sequence[Path]) -> list[ProtoSource]:
    """Reads the files that are at some places, which are folders or files, by path.

    Raises `click.UsageError` where there are none, they are more than a broker takes, or one cannot be read.
    """
    found: dict[Path, ProtoSource] = {}
    for place in places:
        for file in _files(place):
            folder = file.parent.resolve()
            root = _root_of(folder, otherwise=place if place.is_dir() else Path())
            if root is None:
                continue
            if not folder.is_relative_to(root):
                raise click.UsageError(f"{file} is not below the current folder: name the root of its imports instead.")
            path = (folder / file.name).relative_to(root).as_posix()
            if not is_shared(path):
                found.setdefault(folder / file.name, ProtoSource(path, file, _read(file)))
    if not found:
        where = ", ".join(str(place) for place in places)
        raise click.UsageError(f"There is no .proto file in {where}. `certes schemas init` writes one to begin with.")
    size = sum(len(source.content.encode()) for source in found.values())
    if size > MAXIMUM_SOURCE_BYTES:
        raise click.UsageError(
            f"The {len(found)} files have {size} bytes together; a broker takes {MAXIMUM_SOURCE_BYTES} at once. Name the "
            "folders of fewer event types, with all that they import."
        )
    return sorted(found.values(), key=lambda source: source.path)


def root_at(folder: Path) -> Path:
    """Returns the root that a folder is, or that its `buf.yaml` names. Raises `click.UsageError` where that names several."""
    modules = _modules(folder) or [folder]
    if len(modules) > 1:
        names = ", ".join(str(module) for module in modules)
        raise click.UsageError(f"{folder / BUF_FILE} names several modules: say which of {names} is meant.")
    return modules[0]


_MODULE: Final = re.compile(r"""^[ \t]*(?:-[ \t]+)?path:[ \t]*["']?(?P<path>[^"'#\s]+)""", re.MULTILINE)
_FOREIGN_FOLDERS: Final = frozenset({"node_modules"})


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for name, folders, files in os.walk(place):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in _FOREIGN_FOLDERS)
        yield from (Path(name, file) for file in sorted(files) if file.endswith(".proto"))


def _root_of(folder: Path, *, otherwise: Path) -> Path | None:
    """Returns the root of the files in a folder; None if they belong to no module, `otherwise` if there are no modules.

    Both the folder and the root are without links.
    """
    for above in (folder, *folder.parents):
        modules = _modules(above)
        if modules is not None:
            return next((module for module in modules if folder.is_relative_to(module)), None)
    return otherwise.resolve()


def _modules(folder: Path) -> list[Path] | None:
    """Returns the folders that the `buf.yaml` of a folder makes roots; None if it has no such file."""
    file = folder / BUF_FILE
    if not file.is_file():
        return None
    # Where the modules are is all that is asked of it, and nothing else in it is called `path`.
    named = [match["path"] for match in _MODULE.finditer(_read(file))]
    return [Path(os.path.normpath(folder / path)) for path in named] or [folder]


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8, at byte {error.start}.") from None
