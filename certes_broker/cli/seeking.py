"""`certes subscriptions seek`: moves a subscription to another point of what is kept."""

from __future__ import annotations

from typing import Any, Final

import click

from certes_broker.cli.connect import SUBSCRIPTION_SERVICE, Broker, Document
from certes_broker.cli.options import TimeType, broker_option, json_option, subscriber_option, subscription_name
from certes_broker.cli.output import print_json

_ENDS: Final = ("beginning", "end")
_EVENTS: Final = "events/"


class PointType(click.ParamType[Document]):
    """A point of what is kept, as `SeekTarget` of the contract has it."""

    name = "point"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Document:
        point = str(value)
        if point in _ENDS:
            return {point: True}
        if point.startswith(_EVENTS):
            return {"event": point}
        return {"time": TimeType().convert(point, param, ctx)}


@click.command("seek")
@click.argument("name")
@click.argument("target", type=PointType(), metavar="POINT")
@subscriber_option
@json_option
@broker_option
def seek_subscription(*, name: str, target: Document, subscriber: str, as_json: bool, broker: Broker) -> None:
    """Move it: what it gets next is what was accepted from POINT on. What is pending is discarded.

    POINT is `beginning`, `end`, the name of an event, with which it then begins, or a time such as 2026-11-27T12:00:00Z.
    """
    full = subscription_name(name, subscriber)
    request: Document = {"name": full, "target": target}
    answer = broker.call(SUBSCRIPTION_SERVICE, "SeekSubscription", request, doing=f"Moving {full}")
    discarded = int(answer.get("discardedDeliveries", 0))
    if as_json:
        print_json({"discardedDeliveries": discarded})
    else:
        [(kind, where)] = target.items()
        click.echo(
            f"Moved {full} to {kind if where is True else where}. {discarded} pending deliveries were discarded."
        )
