"""Acknowledgements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from certes.v1 import event_service_pb2 as pb
from certes_broker.domain.settlement import Extension, Nack, NackAction, Settlement
from certes_broker.gateway.convert.times import Bounds, read_duration
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import DAY, HOUR, MAXIMUM_NACK_REASON_BYTES, MAXIMUM_ORDINAL_RANGES, SECOND

Range = tuple[int, int]


def read_settlement(message: pb.AcknowledgeRequest) -> Settlement:
    """Returns what an acknowledgement says of the deliveries of its stream.

    Raises `Invalid` if a range is empty, begins before 1 or overlaps another of the same request, or if a duration is
    out of its bounds.
    """
    faults = Faults()
    ranges = len(message.acked) + len(message.nacked) + len(message.extended)
    if ranges > MAXIMUM_ORDINAL_RANGES:
        faults.invalid("acked", f"the request has {ranges} ranges in all; {MAXIMUM_ORDINAL_RANGES} are allowed")
        faults.check()
    if not ranges:
        faults.required("acked", "is required if neither nacked nor extended is given")
    settlement = Settlement(
        acked=tuple([_read_range(faults, f"acked[{i}]", one) for i, one in enumerate(message.acked)]),
        nacked=tuple([_read_nack(faults, i, one) for i, one in enumerate(message.nacked)]),
        extended=tuple([_read_extension(faults, i, one) for i, one in enumerate(message.extended)]),
    )
    faults.check()
    _refuse_overlaps(faults, settlement)
    faults.check()
    return settlement


_ACTIONS: Final = {
    pb.AcknowledgeRequest.ACTION_UNSPECIFIED: NackAction.RETRY,
    pb.AcknowledgeRequest.ACTION_RETRY: NackAction.RETRY,
    pb.AcknowledgeRequest.ACTION_DEAD_LETTER: NackAction.DEAD_LETTER,
    pb.AcknowledgeRequest.ACTION_DROP: NackAction.DROP,
}
_DELAY: Final = Bounds(0.0, DAY)
_DEADLINE: Final = Bounds(SECOND, HOUR)


def _read_range(faults: Faults, path: str, message: pb.OrdinalRange) -> Range:
    first, last = message.first, message.last
    if first < 1:
        faults.invalid(f"{path}.first", f"{first} is below 1, where ordinals begin")
    elif last < first:
        faults.invalid(f"{path}.last", f"{last} is below first, {first}")
    return first, last


def _read_nack(faults: Faults, index: int, message: pb.AcknowledgeRequest.Nack) -> Nack:
    # An absent range reads as 0 to 0 and is refused as such.
    first, last = _read_range(faults, f"nacked[{index}].range", message.range)
    action = _ACTIONS.get(message.action)
    if action is None:
        faults.invalid(f"nacked[{index}].action", f"{message.action} is no action")
        action = NackAction.RETRY
    delay = None
    if message.HasField("delay"):
        if action is not NackAction.RETRY:
            faults.invalid(f"nacked[{index}].delay", "goes with ACTION_RETRY only")
        delay = read_duration(faults, f"nacked[{index}].delay", message.delay, _DELAY)
    return Nack(first, last, action, delay, _cut(message.reason))


def _read_extension(faults: Faults, index: int, message: pb.AcknowledgeRequest.Extension) -> Extension:
    first, last = _read_range(faults, f"extended[{index}].range", message.range)
    field = f"extended[{index}].deadline"
    if not message.HasField("deadline"):
        faults.required(field)
        return Extension(first, last, SECOND)
    return Extension(first, last, read_duration(faults, field, message.deadline, _DEADLINE))


def _refuse_overlaps(faults: Faults, settlement: Settlement) -> None:
    if len(settlement.acked) == 1 and not settlement.nacked and not settlement.extended:
        return
    paths: Iterable[tuple[int, int, str]] = (
        *((first, last, f"acked[{i}]") for i, (first, last) in enumerate(settlement.acked)),
        *((nack.first, nack.last, f"nacked[{i}].range") for i, nack in enumerate(settlement.nacked)),
        *((one.first, one.last, f"extended[{i}].range") for i, one in enumerate(settlement.extended)),
    )
    reached, reacher = 0, ""
    for first, last, path in sorted(paths):
        if first <= reached:
            faults.invalid(path, f"{first} to {last} overlaps {reacher}")
        if last > reached:
            reached, reacher = last, path


def _cut(text: str) -> str:
    """Keeps the first 1,024 bytes of a reason, as the contract says."""
    encoded = text.encode()
    if len(encoded) <= MAXIMUM_NACK_REASON_BYTES:
        return text
    return encoded[:MAXIMUM_NACK_REASON_BYTES].decode(errors="ignore")
