"""Retry policies for which no test has to wait."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from certes.v1 import subscription_pb2 as resources

ONCE = resources.RetryPolicy(schedule=resources.ScheduleBackoff(delays=[Duration()]), max_attempts=1)

SOON_AND_OFTEN = resources.RetryPolicy(
    # With the most attempts there can be, that lasts for longer than a broker needs to start again. A schedule would end it early:
    # it has as many attempts as it lists.
    linear=resources.LinearBackoff(
        initial=Duration(nanos=50_000_000), increment=Duration(nanos=175_000_000), maximum=Duration(nanos=400_000_000)
    ),
    max_attempts=100,
    jitter=0,
)
