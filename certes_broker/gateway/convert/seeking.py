"""Points in what is kept."""

from __future__ import annotations

from typing import assert_never

from certes.v1 import event_service_pb2 as pb
from certes_broker.domain.seeking import SeekBeginning, SeekEnd, SeekEvent, SeekPoint, SeekTime
from certes_broker.gateway.convert.times import read_time
from certes_broker.gateway.faults import Faults


def read_seek_target(faults: Faults, path: str, message: pb.SeekTarget) -> SeekPoint:
    """Returns the point that a message names; the end stands in for one that names none."""
    match message.WhichOneof("point"):
        case None:
            faults.required(path, "needs one of beginning, end, time and event")
            return SeekEnd()
        case "beginning":
            _must_be_true(faults, f"{path}.beginning", value=message.beginning)
            return SeekBeginning()
        case "end":
            _must_be_true(faults, f"{path}.end", value=message.end)
            return SeekEnd()
        case "time":
            return SeekTime(read_time(faults, f"{path}.time", message.time))
        case "event":
            if not message.event:
                faults.required(f"{path}.event")
            return SeekEvent(message.event)
        case _:
            assert_never(message.WhichOneof("point"))


def _must_be_true(faults: Faults, field: str, *, value: bool) -> None:
    if not value:
        faults.invalid(field, "can only be true; leave it out otherwise")
