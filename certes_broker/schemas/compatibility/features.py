"""The features that are in force at an element, whichever way its file says them.

`syntax = "proto2"` and `"proto3"` are sets of features like any edition's, and an element has what encloses it has, but for
what it says itself. Two files are compared by the features in force, so that the same meaning said in another way is no
change.

Source: https://protobuf.dev/editions/features/
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

from google.protobuf.descriptor_pb2 import Edition, FeatureSet, FileDescriptorProto


class Features(NamedTuple):
    """Numbers of the enums of `google.protobuf.FeatureSet`. Only what bears on bytes and JSON is kept."""

    field_presence: int
    enum_type: int
    repeated_field_encoding: int
    utf8_validation: int
    message_encoding: int
    json_format: int

    def within(self, said: FeatureSet) -> Features:
        """Returns what is in force within an element that says some features itself."""
        own = {name: value for name in self._fields if (value := getattr(said, name))}
        return self._replace(**own) if own else self


def features_of(file: FileDescriptorProto) -> Features:
    """Returns what is in force at the top of a file."""
    defaults = _defaults(edition_of(file))
    return defaults.within(file.options.features) if file.HasField("options") else defaults


def edition_of(file: FileDescriptorProto) -> int:
    """Returns the number of the edition that the file follows; the two older syntaxes count as editions."""
    if file.syntax == "editions":
        return file.edition
    return _SYNTAXES[file.syntax]


# A file that says no syntax is proto2.
_SYNTAXES: Final[Mapping[str, int]] = {
    "": Edition.EDITION_PROTO2,
    "proto2": Edition.EDITION_PROTO2,
    "proto3": Edition.EDITION_PROTO3,
}


@cache
def _defaults(edition: int) -> Features:
    """Reads the defaults of an edition from `descriptor.proto` itself, where each feature lists them by edition."""
    in_force = {}
    for name in Features._fields:
        feature = FeatureSet.DESCRIPTOR.fields_by_name[name]
        known = [default for default in feature.GetOptions().edition_defaults if default.edition <= edition]
        value = max(known, key=lambda default: default.edition).value
        assert feature.enum_type is not None
        in_force[name] = feature.enum_type.values_by_name[value].number
    return Features(**in_force)
