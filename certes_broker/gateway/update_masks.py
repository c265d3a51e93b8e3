"""Update masks: which fields of a stored resource an update changes.

Rules
-----
* A path names a field of the resource, or one below it: `selectors`, `webhook.url`, `retry_policy.exponential.initial`.
  It cannot lead into a list, a map, a duration or a time; those change as a whole.
* `*` means every field that can be changed; what the request does not set is cleared, and has its default again.
* Without a mask, the fields that the request sets are changed, each as a whole: `webhook {url}` is a webhook with all else
  by default.
* Output-only fields are refused in a mask. Without one, or under `*`, they are passed over, so that what was read can be
  changed and sent back. Fields that identify the resource, such as `name` and `etag`, change nothing in a mask.
* A subscription's `generation` that is sent is always stored: it says which release the update is of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from certes.v1 import source_pb2, subscription_pb2
from certes_broker.domain.errors import Reason
from certes_broker.gateway.faults import Faults

M = TypeVar("M", bound=Message)

EVERYTHING: Final = "*"


@dataclass(frozen=True, slots=True)
class Maskable:
    """What a mask may say of a kind of resource.

    `output_only` fields are the broker's to say, and those `below` others of the resource, by their path; `identifying` ones say which
    resource is meant. Fields that are `always`
    changed are so where they are sent, whatever the mask says.
    """

    message: Descriptor
    output_only: frozenset[str]
    identifying: frozenset[str]
    always: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()

    @property
    def changeable(self) -> tuple[str, ...]:
        """The fields that an update can change."""
        fixed = self.output_only | self.identifying
        return tuple(name for name in self.message.fields_by_name if name not in fixed)


SUBSCRIPTION: Final = Maskable(
    subscription_pb2.Subscription.DESCRIPTOR,
    output_only=frozenset({"state", "create_time", "update_time", "delete_time", "state_reason"}),
    identifying=frozenset({"name", "etag"}),
    always=frozenset({"generation"}),
    below=frozenset({"webhook.consent"}),
)
SOURCE: Final = Maskable(
    source_pb2.Source.DESCRIPTOR,
    output_only=frozenset({"path", "secret_count", "configured", "create_time", "update_time"}),
    identifying=frozenset({"name", "etag", "provider"}),
)


def mask_paths(faults: Faults, resource: Maskable, given: Message, mask: FieldMask) -> tuple[str, ...]:
    """Returns the paths that an update changes. Those that cannot be changed are noted as faults and left out."""
    sent = {field.name for field, _ in given.ListFields()}
    if not mask.paths:
        return tuple(name for name in resource.changeable if name in sent)
    if EVERYTHING in mask.paths:
        return resource.changeable
    paths = [path for path in dict.fromkeys(mask.paths) if _may_change(faults, resource, path)]
    return (*paths, *sorted(resource.always & sent))


def merge(paths: tuple[str, ...], given: M, stored: M) -> M:
    """Returns `stored` with the fields of `paths` as `given` has them."""
    merged = type(stored)()
    merged.CopyFrom(stored)
    for path in paths:
        _copy(path.split("."), given, merged)
    return merged


def _may_change(faults: Faults, resource: Maskable, path: str) -> bool:
    field = "update_mask"
    first, *below = path.split(".")
    fixed = [one for one in resource.output_only | resource.below if path == one or path.startswith(f"{one}.")]
    if fixed:
        faults.add(
            Reason.FIELD_OUTPUT_ONLY, field, f"{fixed[0]} is said by the broker and cannot be changed", path=path
        )
        return False
    problem = _path_problem(resource.message, first, below)
    if problem:
        faults.add(Reason.FIELD_INVALID, field, f"{path!r} {problem}", path=path)
        return False
    return first not in resource.identifying


def _path_problem(message: Descriptor, first: str, below: list[str]) -> str:
    """Says why a path leads to no field that can be changed by itself; empty if it does."""
    field = message.fields_by_name.get(first)
    if field is None:
        return f"names no field: {message.name} has no {first!r}"
    if not below:
        return ""
    inner = field.message_type
    # Of the fields that hold messages, lists and maps alone have no presence.
    if inner is None or not field.has_presence or inner.file.package != message.file.package:
        return f"leads below {first!r}, which changes as a whole"
    return _path_problem(inner, below[0], below[1:])


def _copy(path: list[str], given: Message, merged: Message) -> None:
    name, *below = path
    if below:
        if given.HasField(name) or merged.HasField(name):
            _copy(below, getattr(given, name), getattr(merged, name))
        return
    field = given.DESCRIPTOR.fields_by_name[name]
    merged.ClearField(name)
    value = getattr(given, name)
    if field.has_presence:
        if not given.HasField(name):
            return
        if field.message_type is None:
            setattr(merged, name, value)
        else:
            getattr(merged, name).CopyFrom(value)
            getattr(merged, name).SetInParent()
    elif hasattr(value, "MergeFrom"):
        getattr(merged, name).MergeFrom(value)
    else:
        setattr(merged, name, value)
