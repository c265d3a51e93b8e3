"""The files of one version of schemas: what is registered, compared and stored."""

from __future__ import annotations

from dataclasses import dataclass

from certes_broker.domain.schemas import VersionName


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A version's files, complete in themselves.

    `files` are serialized `FileDescriptorProto`s, each after those it imports, with all that is imported and with the options
    `(certes.v1.schema)` and `(certes.v1.event)` complete. `event_types` are the last segments of the event URIs and the full
    names of their messages, by the former. `sources` are the paths and texts of the `.proto` files as they were registered,
    by path; empty where they were not.
    """

    name: VersionName
    files: tuple[bytes, ...]
    event_types: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...] = ()
