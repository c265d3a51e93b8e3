"""Update masks: which fields of a stored subscription an update changes.

Rules
-----
* A path names a field of `Subscription`, or one below it: `selectors`, `webhook.url`, `retry_policy.exponential.initial`.
  It cannot lead into a list, a map, a duration or a time; those change as a whole.
* `*` means every field that can be changed; what the request does not set is cleared, and has its default again.
* Without a mask, the fields that the request sets are changed, each as a whole: `webhook {url}` is a webhook with all else
  by default.
* Output-only fields are refused in a mask. Without one, or under `*`, they are passed over, so that what was read can be
  changed and sent back. `name` and `etag` say which subscription is meant; in a mask they change nothing.
* A `generation` that is sent is always stored: it says which release the update is of.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from certes.v1 import subscription_pb2 as pb
from certes.v1 import subscription_service_pb2 as service_pb
from certes_broker.domain.errors import Reason
from certes_broker.gateway.faults import Faults

OUTPUT_ONLY: Final = frozenset({"state", "create_time", "update_time", "delete_time", "state_reason"})
IDENTIFYING: Final = frozenset({"name", "etag"})
EVERYTHING: Final = "*"


def mask_paths(faults: Faults, request: service_pb.UpdateSubscriptionRequest) -> tuple[str, ...]:
    """Returns the paths that an update changes. Those that cannot be changed are noted as faults and left out."""
    changeable = [name for name in pb.Subscription.DESCRIPTOR.fields_by_name if name not in OUTPUT_ONLY | IDENTIFYING]
    wanted = list(request.update_mask.paths)
    if not wanted:
        given = {field.name for field, _ in request.subscription.ListFields()}
        return tuple(name for name in changeable if name in given)
    if EVERYTHING in wanted:
        return tuple(changeable)
    paths = [path for path in dict.fromkeys(wanted) if _may_change(faults, path)]
    if request.subscription.HasField("generation"):
        paths.append("generation")
    return tuple(paths)


def merge(paths: tuple[str, ...], given: pb.Subscription, stored: pb.Subscription) -> pb.Subscription:
    """Returns `stored` with the fields of `paths` as `given` has them."""
    merged = pb.Subscription()
    merged.CopyFrom(stored)
    for path in paths:
        _copy(path.split("."), given, merged)
    return merged


def _may_change(faults: Faults, path: str) -> bool:
    field = "update_mask"
    first, *below = path.split(".")
    if first in OUTPUT_ONLY:
        faults.add(Reason.FIELD_OUTPUT_ONLY, field, f"{first} is said by the broker and cannot be changed", path=path)
        return False
    problem = _path_problem(pb.Subscription.DESCRIPTOR, first, below)
    if problem:
        faults.add(Reason.FIELD_INVALID, field, f"{path!r} {problem}", path=path)
        return False
    return first not in IDENTIFYING


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
