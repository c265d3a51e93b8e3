"""How much a registration may bring, and what it is told beyond that.

Everything here guards the broker, not a style: each number is several times what the largest real schemas need (the GitHub
catalogue, the protos of big clouds) and still small enough that the worst that fits is handled in well under a second.
"""

from __future__ import annotations

from typing import Final

from certes_broker.domain.errors import Invalid, Reason

MAXIMUM_SOURCE_BYTES: Final = 1 << 20
"""Of all texts of a registration together, in UTF-8. The contract says so."""
MAXIMUM_DESCRIPTOR_BYTES: Final = 1 << 20
"""Of a descriptor set as it is sent."""
MAXIMUM_VERSION_BYTES: Final = 2 << 20
"""Of the descriptors of a version's own files, with their comments: dense sources of 1 MiB, the most there can be, need 1.7.
An answer that shows both has to fit into a gRPC message of 4 MiB."""
MAXIMUM_ANSWER_BYTES: Final = 3 << 20
"""Of the descriptors of all versions of a registration, imports and all: the answer shows them in one such message."""
MAXIMUM_COMPILED_BYTES: Final = 16 << 20
"""Of what the compiler writes, with the position of every token: about ten times the text of an ordinary file."""
MAXIMUM_FILES: Final = 500
"""Of a registration. The largest public APIs have some 300 files a version."""
MAXIMUM_IMPORTS: Final = 20_000
"""Of all files together: as dense as forty imports in each of 500 files."""
MAXIMUM_NESTING: Final = 32
"""Levels of messages defined within messages. Whoever walks a schema may recurse so deep."""
MAXIMUM_MESSAGES: Final = 5_000
"""Of a registration, nested ones and maps included. Each becomes a class when it is used."""
MAXIMUM_FIELDS: Final = 1_000
"""Of one message, with extensions defined in it. The widest messages that people write by hand have some 200."""
MAXIMUM_ALL_FIELDS: Final = 30_000
"""Of a registration: linking takes about 2 µs each."""
MAXIMUM_ENUM_VALUES: Final = 5_000
"""Of one enum. The registry of MIME types would fit."""
MAXIMUM_ALL_ENUM_VALUES: Final = 20_000
"""Of a registration, for the same reason as its fields."""
MAXIMUM_RANGES: Final = 1_000
"""Reserved numbers, reserved names and extension ranges of one message or enum: the compiler compares each with each."""
MAXIMUM_EVENT_TYPES: Final = 1_000
"""Of a registration."""
MAXIMUM_OPTIONS: Final = 64
"""Subscription options of one event type: every one that has a value is read from every event."""
MAXIMUM_NAME: Final = 512
"""Characters of a full name, such as `my.events.v1.Invited.Guest`. Every reference to it repeats it."""


def too_large(what: str, found: int, maximum: int, *, hint: str = "") -> Invalid:
    """Builds the refusal of something beyond its limit; `what` is as in `the fields of message a.B`."""
    return Invalid(
        Reason.SCHEMA_TOO_LARGE,
        f"{what} are {found}; at most {maximum} are taken.",
        metadata={"limit": what, "maximum": str(maximum), "found": str(found)},
        hint=hint,
    )
