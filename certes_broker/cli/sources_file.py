"""Adds a source to a configuration file, and leaves everything else in it as it was written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tomlkit
from tomlkit.items import AoT

from certes_broker.config import Config
from certes_broker.config.loading import Document, assemble
from certes_broker.domain.errors import AlreadyExists, Invalid, Reason


def add_source(file: Path, environ: Mapping[str, str], table: Mapping[str, object]) -> Config:
    """Appends a `[[sources]]` table, and returns the settings that the file gives now.

    A file that does not exist is created, readable by its owner alone; else it is replaced in one step, so that no
    reader finds half of it. Nothing is written unless the file is valid before and after.

    Raises `AlreadyExists` / `SOURCE_EXISTS` if the name is taken, `Invalid` / `SETTINGS_INVALID` otherwise.
    """
    file = file.resolve()
    text = _read(file) if file.exists() else ""
    before = assemble(Document(text, str(file)), file, environ, {})
    if any(source.name == table["name"] for source in before.sources):
        raise AlreadyExists(
            Reason.SOURCE_EXISTS,
            f"{file} already declares a source named {table['name']!r}.",
            hint="Choose another name, or edit the file.",
        )
    changed = _with_source(text, table)
    after = assemble(Document(changed, str(file)), file, environ, {})
    _replace(file, changed)
    return after


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(Reason.SETTINGS_INVALID, f"The configuration file {file} cannot be read: {error}.") from None


def _with_source(text: str, table: Mapping[str, object]) -> str:
    document = tomlkit.parse(text)
    existing = document.get("sources")
    if existing is not None and not isinstance(existing, AoT):
        # Written as `sources = [{…}]`: the new one goes where the others are.
        inline = tomlkit.inline_table()
        inline.update(table)
        existing.append(inline)
        return tomlkit.dumps(document)
    # Appended as text: a table of its own at the end needs nothing of what stands above.
    addition = tomlkit.document()
    addition["sources"] = tomlkit.aot()
    item = tomlkit.table()
    item.update(table)
    addition["sources"].append(item)
    blank = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return text + blank + tomlkit.dumps(addition)


def _replace(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes it readable by the owner alone: it holds secrets.
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            if file.exists():
                Path(temporary).chmod(file.stat().st_mode)
            Path(temporary).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise Invalid(
            Reason.SETTINGS_INVALID, f"The configuration file {file} cannot be written: {error.strerror}."
        ) from None
