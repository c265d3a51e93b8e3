"""The files that every broker has, and that schemas import without bringing them.

They are `google/protobuf`, `certes/v1/options.proto` and the community catalogue, as descriptors: the very ones that this
process runs with. So a schema is compiled, linked and kept with the same bytes of them, whatever release of the compiler is
installed, and the compiler needs no folder to look them up in, where it could find something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from types import MappingProxyType
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

import certes.community
from certes.v1 import options_pb2


@cache
def shared_files() -> Mapping[str, bytes]:
    """Returns the serialized `FileDescriptorProto` of each shared file by its path, each after those it imports."""
    found: dict[str, bytes] = {}
    for name in _WELL_KNOWN:
        _collect(import_module(f"google.protobuf.{name}_pb2").DESCRIPTOR, found)
    _collect(options_pb2.DESCRIPTOR, found)
    for module in walk_packages(certes.community.__path__, f"{certes.community.__name__}."):
        if _GENERATED.search(module.name):
            _collect(import_module(module.name).DESCRIPTOR, found)
    return MappingProxyType(found)


@cache
def shared_descriptors() -> Mapping[str, FileDescriptorProto]:
    """Returns the same, parsed. They are everybody's: copy them, do not change them."""
    return MappingProxyType({path: FileDescriptorProto.FromString(wire) for path, wire in shared_files().items()})


@cache
def shared_set() -> bytes:
    """Returns the same as a serialized `FileDescriptorSet`."""
    return FileDescriptorSet(file=shared_descriptors().values()).SerializeToString()


_WELL_KNOWN: Final = (
    "any",
    "api",
    "descriptor",
    "duration",
    "empty",
    "field_mask",
    "source_context",
    "struct",
    "timestamp",
    "type",
    "wrappers",
)
_GENERATED: Final = re.compile(r"\.v[1-9][0-9]*\.\w+_pb2$")


def _collect(file: FileDescriptor, found: dict[str, bytes]) -> None:
    if file.name in found:
        return
    for imported in file.dependencies:
        _collect(imported, found)
    found[file.name] = file.serialized_pb
