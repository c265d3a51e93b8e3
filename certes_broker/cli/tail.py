"""`certes tail`: shows events as they come."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from datetime import datetime
from typing import Final

import click

from certes_broker.cli.connect import EVENT_SERVICE, Broker, Document
from certes_broker.cli.failures import BrokerUnreachable
from certes_broker.cli.options import broker_option, filter_option, matching_options, parse_matching, subscriber_option
from certes_broker.cli.output import compact, print_json

MAXIMUM_OUTSTANDING: Final = 256
"""How many events the broker may be ahead of what is printed."""


@click.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@subscriber_option
@matching_options
@filter_option
@click.option(
    "--from",
    "start",
    type=click.Choice(["now", "beginning"]),
    default="now",
    show_default=True,
    help="Begin with what comes now, or with the earliest event that is kept.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after this many events.")
@click.option("--json", "as_json", is_flag=True, help="Print each delivery as one line of JSON, for scripts.")
@broker_option
def tail(
    *,
    patterns: tuple[str, ...],
    subscriber: str,
    option: tuple[str, ...],
    filter_text: str | None,
    start: str,
    count: int | None,
    as_json: bool,
    broker: Broker,
) -> None:
    """Show events whose type matches a PATTERN, as they come, until Ctrl-C. An --option narrows each of them.

    In a pattern * stands for one segment, and a last ** for one or more: community.certes.dev/github/1/*. Nothing is
    stored, and no other subscription is affected.
    """
    target: Document = {
        "parent": f"subscribers/{subscriber}",
        "selectors": [{"pattern": pattern, "options": parse_matching(option)} for pattern in patterns],
    }
    if filter_text is not None:
        target["filter"] = filter_text
    if start == "beginning":
        target["start"] = {"beginning": True}
    request = {"ephemeral": target, "maxOutstanding": MAXIMUM_OUTSTANDING}
    doing = f"Tailing {' '.join(patterns)}"
    frames = broker.stream(EVENT_SERVICE, "Subscribe", request, doing=doing)
    # Closed explicitly: a stream that is only forgotten ends when the garbage collector finds it.
    with closing(_deliveries(broker, frames, doing)) as deliveries:
        for number, delivery in enumerate(deliveries, start=1):
            if as_json:
                print_json(delivery, indent=None)
            else:
                _print_delivery(delivery)
            if number == count:
                return


def _deliveries(broker: Broker, frames: Generator[Document, None, None], doing: str) -> Generator[Document, None, None]:
    """Yields what a stream brings, and acknowledges each batch once all of it has been taken."""
    stream = ""
    with closing(frames):
        for frame in frames:
            if "opened" in frame:
                stream = frame["opened"]["stream"]
                click.echo("Waiting for events; Ctrl-C ends.", err=True)
            elif "batch" in frame:
                batch = frame["batch"]
                yield from batch["deliveries"]
                first = int(batch["firstOrdinal"])
                acked = {"first": first, "last": first + len(batch["deliveries"]) - 1}
                broker.call(EVENT_SERVICE, "Acknowledge", {"stream": stream, "acked": [acked]}, doing=doing)
            elif "closing" in frame:
                said = frame["closing"].get("message") or frame["closing"].get("reason", "no reason given")
                raise BrokerUnreachable(
                    doing, f"the broker ended the stream: {said.rstrip('.')}", "Tail again in a moment."
                )


def _print_delivery(delivery: Document) -> None:
    event = delivery["event"]
    accepted = datetime.fromisoformat(delivery["acceptTime"]).astimezone()
    about = " ".join(text for text in (event.get("source"), event.get("subject")) if text)
    audience = "everyone" if event.get("everyone") else f"subscribers/{event.get('subscriber')}"
    attempt = f" attempt {delivery['attempt']}" if delivery.get("attempt", 1) > 1 else ""
    time = click.style(accepted.strftime("%H:%M:%S.%f")[:-3], dim=True)
    event_type = click.style(event["type"], fg="cyan", bold=True)
    rest = click.style(f"{audience}  id {event['id']}{attempt}", dim=True)
    click.echo(f"{time}  {event_type}  {about}  {rest}")
    shown = compact(event["data"]) if "data" in event else f"raw {event.get('raw', {}).get('contentType', '')}"
    width = _width()
    click.echo(f"    {shown if width is None or len(shown) <= width else shown[: width - 1] + '…'}")


def _width() -> int | None:
    """Returns how many characters of data fit on a line; None if the output is no terminal, and nothing is cut."""
    if not sys.stdout.isatty():
        return None
    import shutil  # noqa: PLC0415  only a terminal needs it

    return max(20, shutil.get_terminal_size().columns - 5)
