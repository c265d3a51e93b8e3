"""Retry policies to and from messages. Their bounds are `domain.retry`'s own."""

from __future__ import annotations

from typing import assert_never

from google.protobuf.duration_pb2 import Duration

from certes.v1 import subscription_pb2 as pb
from certes_broker.domain.retry import (
    DEFAULT_JITTER,
    DEFAULT_MAXIMUM,
    DEFAULT_MULTIPLIER,
    Backoff,
    Exponential,
    Linear,
    Logarithmic,
    RetryPolicy,
    Schedule,
)
from certes_broker.gateway.convert.times import duration, raw_seconds
from certes_broker.gateway.faults import Faults


def read_retry_policy(faults: Faults, parent: str, message: pb.RetryPolicy) -> RetryPolicy | None:
    """Returns the policy of a message, None where there are faults. `parent` is the path of the message that has it."""
    path = f"{parent}.retry_policy"
    backoff = _read_backoff(faults, parent, message)
    max_duration = None
    if message.HasField("max_duration"):
        max_duration = raw_seconds(faults, f"{path}.max_duration", message.max_duration)
    if backoff is None:
        return None
    with faults.within(parent):
        return RetryPolicy(
            backoff,
            max_attempts=message.max_attempts if message.HasField("max_attempts") else None,
            max_duration=max_duration,
            jitter=message.jitter if message.HasField("jitter") else DEFAULT_JITTER,
        )
    return None


def retry_policy_message(policy: RetryPolicy) -> pb.RetryPolicy:
    """Returns the message of a policy, every default spelled out."""
    message = pb.RetryPolicy(jitter=policy.jitter)
    if policy.max_attempts is not None:
        message.max_attempts = policy.max_attempts
    if policy.max_duration is not None:
        message.max_duration.CopyFrom(duration(policy.max_duration))
    match policy.backoff:
        case Exponential(initial, multiplier, maximum):
            message.exponential.CopyFrom(
                pb.ExponentialBackoff(initial=duration(initial), multiplier=multiplier, maximum=duration(maximum))
            )
        case Linear(initial, increment, maximum):
            message.linear.CopyFrom(
                pb.LinearBackoff(initial=duration(initial), increment=duration(increment), maximum=duration(maximum))
            )
        case Logarithmic(initial, scale, maximum):
            message.logarithmic.CopyFrom(
                pb.LogarithmicBackoff(initial=duration(initial), scale=duration(scale), maximum=duration(maximum))
            )
        case Schedule(delays):
            message.schedule.CopyFrom(pb.ScheduleBackoff(delays=[duration(delay) for delay in delays]))
        case _:
            assert_never(policy.backoff)
    return message


class _Waits:
    """Reads the durations of one back-off, and knows whether all of them were durations."""

    def __init__(self, faults: Faults, path: str) -> None:
        self._faults = faults
        self._path = path
        self.all_read = True

    def wait(self, name: str, message: Duration) -> float:
        seconds = raw_seconds(self._faults, f"{self._path}.{name}", message)
        if seconds is None:
            self.all_read = False
            return 0.0
        return seconds

    def initial(self, backoff: pb.ExponentialBackoff | pb.LinearBackoff | pb.LogarithmicBackoff) -> float:
        if backoff.HasField("initial"):
            return self.wait("initial", backoff.initial)
        self._faults.required(f"{self._path}.initial")
        self.all_read = False
        return 0.0

    def maximum(
        self, backoff: pb.ExponentialBackoff | pb.LinearBackoff | pb.LogarithmicBackoff, initial: float
    ) -> float:
        return self.wait("maximum", backoff.maximum) if backoff.HasField("maximum") else max(DEFAULT_MAXIMUM, initial)


def _read_backoff(faults: Faults, parent: str, message: pb.RetryPolicy) -> Backoff | None:
    path = f"{parent}.retry_policy"
    match message.WhichOneof("backoff"):
        case None:
            faults.required(path, "needs one of exponential, linear, logarithmic and schedule")
        case "exponential":
            waits = _Waits(faults, f"{path}.exponential")
            exponential = message.exponential
            initial = waits.initial(exponential)
            maximum = waits.maximum(exponential, initial)
            if waits.all_read:
                with faults.within(parent):
                    multiplier = exponential.multiplier if exponential.HasField("multiplier") else DEFAULT_MULTIPLIER
                    return Exponential(initial, multiplier, maximum)
        case "linear":
            waits = _Waits(faults, f"{path}.linear")
            linear = message.linear
            initial = waits.initial(linear)
            maximum = waits.maximum(linear, initial)
            increment = waits.wait("increment", linear.increment) if linear.HasField("increment") else initial
            if waits.all_read:
                with faults.within(parent):
                    return Linear(initial, increment, maximum)
        case "logarithmic":
            waits = _Waits(faults, f"{path}.logarithmic")
            logarithmic = message.logarithmic
            initial = waits.initial(logarithmic)
            maximum = waits.maximum(logarithmic, initial)
            scale = waits.wait("scale", logarithmic.scale) if logarithmic.HasField("scale") else initial
            if waits.all_read:
                with faults.within(parent):
                    return Logarithmic(initial, scale, maximum)
        case "schedule":
            waits = _Waits(faults, f"{path}.schedule")
            delays = [waits.wait(f"delays[{index}]", delay) for index, delay in enumerate(message.schedule.delays)]
            if waits.all_read:
                with faults.within(parent):
                    return Schedule(tuple(delays))
        case _:
            assert_never(message.WhichOneof("backoff"))
    return None
