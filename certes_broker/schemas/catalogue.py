"""The community catalogue: the event types that are shipped with the broker.

A module of generated code below `certes.community` whose file has `(certes.v1.schema)` contributes each of its messages
that has `(certes.v1.event)`. The two options together are the event URI:
`<domain>/<namespace>/<version>/<name>`. Catalogue files spell all four, so that what is served is what is written there.
The `.proto` files are shipped beside the code that was generated from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module, resources
from pkgutil import walk_packages
from types import ModuleType
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor

import certes.community
from certes.v1 import options_pb2
from certes_broker.domain.errors import Internal, Reason
from certes_broker.domain.schemas import Origin, VersionName
from certes_broker.domain.uris import parse_event_type
from certes_broker.schemas.schema_version import MessageTypes, SchemaVersion
from certes_broker.schemas.version_files import VersionFiles

COMMUNITY_DOMAIN: Final = "community.certes.dev"


def community_versions(catalogue: ModuleType = certes.community) -> Iterator[SchemaVersion]:
    """Yields every version in the generated code below a package."""
    modules = walk_packages(catalogue.__path__, f"{catalogue.__name__}.")
    return versions_of(import_module(module.name).DESCRIPTOR for module in modules if _GENERATED.search(module.name))


def versions_of(files: Iterable[FileDescriptor]) -> Iterator[SchemaVersion]:
    """Yields the versions in files of generated code. Raises `Internal` if two messages claim one event type."""
    found: dict[VersionName, dict[str, Descriptor]] = {}
    for file in files:
        _gather(file, found)
    types = MessageTypes(descriptor_pool.Default())
    for name, events in sorted(found.items()):
        yield SchemaVersion(
            generated_files(name, events, "certes/community/"), revision=1, origin=Origin.COMMUNITY, types=types
        )


def generated_files(name: VersionName, events: Mapping[str, Descriptor], sources: str) -> VersionFiles:
    """Returns the files of a version of generated code, whose event types have these names.

    Its sources are the files below the folder `sources`.
    """
    closure = list(_closure(descriptor.file for descriptor in events.values()))
    return VersionFiles(
        name,
        tuple(file.serialized_pb for file in closure),
        tuple(sorted((event, descriptor.full_name) for event, descriptor in events.items())),
        tuple(sorted((file.name, _source(file.name)) for file in closure if file.name.startswith(sources))),
    )


_GENERATED: Final = re.compile(r"\.v[1-9][0-9]*\.\w+_pb2$")


def _gather(file: FileDescriptor, found: dict[VersionName, dict[str, Descriptor]]) -> None:
    if not file.GetOptions().HasExtension(options_pb2.schema):
        return
    binding = file.GetOptions().Extensions[options_pb2.schema]
    for descriptor in file.message_types_by_name.values():
        if not descriptor.GetOptions().HasExtension(options_pb2.event):
            continue
        event = descriptor.GetOptions().Extensions[options_pb2.event].name
        event_type = parse_event_type(f"{binding.domain}/{binding.namespace}/{binding.version}/{event}")
        name = VersionName(event_type.domain, event_type.namespace, event_type.version)
        other = found.setdefault(name, {}).setdefault(event_type.name, descriptor)
        if other is not descriptor:
            raise Internal(
                Reason.INTERNAL, f"{other.full_name} and {descriptor.full_name} are both the schema of {event_type}"
            )


def _closure(roots: Iterable[FileDescriptor]) -> Iterator[FileDescriptor]:
    """Yields files and all that they import, each once and after what it imports."""
    seen: set[str] = set()

    def visit(file: FileDescriptor) -> Iterator[FileDescriptor]:
        if file.name not in seen:
            seen.add(file.name)
            for dependency in file.dependencies:
                yield from visit(dependency)
            yield file

    for root in sorted(roots, key=lambda file: file.name):
        yield from visit(root)


def _source(path: str) -> str:
    return resources.files("certes").joinpath(path.removeprefix("certes/")).read_text(encoding="utf-8")
