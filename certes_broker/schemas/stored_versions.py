"""Registered versions as settings documents: JSON, compressed, because descriptors and their sources repeat themselves."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from certes_broker.domain.errors import Internal, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.schemas.compiling.shared_files import shared_files
from certes_broker.schemas.schema_version import SchemaVersion
from certes_broker.schemas.system_events import SystemEvent
from certes_broker.schemas.version_files import VersionFiles

PREFIX: Final = "schemas/"


@dataclass(frozen=True, slots=True)
class Registration:
    """What one registration changes: versions in their new revisions, and what is to be said about it."""

    versions: tuple[SchemaVersion, ...]
    events: tuple[SystemEvent, ...]


def key_of(name: VersionName) -> str:
    """Returns the key of a version's document."""
    return PREFIX + name.text


def write_version(version: SchemaVersion) -> bytes:
    """Returns the body of a registered version's document."""
    return _compressed(_version_document(version))


def read_version(body: bytes) -> SchemaVersion:
    """Returns the version of a document's body. Raises `Internal` if it is none."""
    return _read_version(_decompressed(body))


def write_registration(registration: Registration) -> bytes:
    """Returns the body of a registration's document."""
    return _compressed(
        {
            "versions": [_version_document(version) for version in registration.versions],
            "events": [[event.type, event.id, event.source, _text(event.body)] for event in registration.events],
        }
    )


def read_registration(body: bytes) -> Registration:
    """Returns the registration of a document's body. Raises `Internal` if it is none."""
    document = _decompressed(body)
    try:
        events = [SystemEvent(kind, key, source, b64decode(wire)) for kind, key, source, wire in document["events"]]
        return Registration(tuple(_read_version(version) for version in document["versions"]), tuple(events))
    except (LookupError, TypeError, ValueError) as error:
        raise _unreadable(error) from error


def _version_document(version: SchemaVersion) -> Mapping[str, Any]:
    files = version.files
    return {
        "name": list(version.name),
        "revision": version.revision,
        "register_time": version.register_time,
        "files": [_text(file) for file in files.files],
        "event_types": files.event_types,
        "sources": files.sources,
    }


def _read_version(document: Mapping[str, Any]) -> SchemaVersion:
    try:
        domain, namespace, number = document["name"]
        files = VersionFiles(
            VersionName(domain, namespace, number),
            tuple(_shared(b64decode(file)) for file in document["files"]),
            tuple((name, message) for name, message in document["event_types"]),
            tuple((path, text) for path, text in document["sources"]),
        )
        time = Micros(document["register_time"])
        return SchemaVersion(files, revision=document["revision"], origin=Origin.REGISTERED, register_time=time)
    except (LookupError, TypeError, ValueError) as error:
        raise _unreadable(error) from error


def _shared(file: bytes) -> bytes:
    """Returns the broker's own copy of a file that it has too: most versions import the same few, which are large."""
    return _SHARED_COPIES.get(file, file)


_SHARED_COPIES: Final[Mapping[bytes, bytes]] = {file: file for file in shared_files().values()}


def _text(content: bytes) -> str:
    return b64encode(content).decode()


def _compressed(document: Mapping[str, Any]) -> bytes:
    return zlib.compress(orjson.dumps(document), _LEVEL)


def _decompressed(body: bytes) -> Any:
    try:
        return orjson.loads(zlib.decompress(body))
    except (zlib.error, ValueError) as error:
        raise _unreadable(error) from error


_LEVEL: Final = 3
"""Of 9: half the time, a tenth more bytes."""


def _unreadable(error: Exception) -> Internal:
    return Internal(Reason.INTERNAL, f"A stored version of schemas cannot be read: {error!r}.")
