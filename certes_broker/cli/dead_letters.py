"""`certes dead-letters`: deliveries that were given up on, looked at, replayed and purged."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

from certes_broker.cli.connect import DELIVERY_SERVICE, SUBSCRIPTION_SERVICE, Broker, Document
from certes_broker.cli.failures import CallRefused, ExitCode
from certes_broker.cli.options import TimeType, broker_option, json_option, subscriber_option, subscription_name
from certes_broker.cli.output import compact, plain, print_facts, print_json, print_table
from certes_broker.domain.errors import Reason

C = TypeVar("C", bound=Callable[..., Any])
Shown = Callable[[int], None]
"""Is told how much is done."""

COLLECTION: Final = "deadLetters"
AT_ONCE: Final = 1000
"""Dead letters in one request."""
_ACTIVE: Final = "active"
LOOK_EVERY: Final = 0.5
"""Seconds between two looks at how far a replay is."""
REASONS: Final = {
    reason.removeprefix("REASON_").lower().replace("_", "-"): reason
    for reason in (
        "REASON_ATTEMPTS_EXHAUSTED",
        "REASON_DURATION_EXHAUSTED",
        "REASON_REJECTED",
        "REASON_NOT_RENDERED",
        "REASON_ABORTED_BY_RECEIVER",
    )
}
"""What `--reason` takes, and how the contract spells it."""


def choosing_options(command: C) -> C:
    """Adds the options of a filter; the command gets `pattern`, `reason`, `since` and `until`."""
    for option in (
        click.option("--until", type=TimeType(), metavar="TIME", help="Only those given up on before this time."),
        click.option(
            "--since",
            type=TimeType(),
            metavar="TIME",
            help="Only those given up on at this time, such as 2026-11-27T12:00:00Z, or later.",
        ),
        click.option("--reason", type=click.Choice(list(REASONS)), help="Only those given up on for this reason."),
        click.option("--pattern", help="Only those of these event types."),
    ):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at deliveries that were given up on, replay and purge them.

    A SUBSCRIPTION is subscribers/SUBSCRIBER/subscriptions/ID, or only the ID beside --subscriber. A LETTER is the last part of
    a dead letter's name, or all of it.
    """


@dead_letters.command("list")
@click.argument("subscription")
@subscriber_option
@choosing_options
@json_option
@broker_option
def list_dead_letters(
    *,
    subscription: str,
    subscriber: str,
    pattern: str | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    as_json: bool,
    broker: Broker,
) -> None:
    """List the dead letters of SUBSCRIPTION in the order in which their events were accepted."""
    full = subscription_name(subscription, subscriber)
    request: Document = {"parent": full, "filter": _filter(pattern, reason, since, until)}
    doing = f"Listing the dead letters of {full}"
    found = broker.pages(DELIVERY_SERVICE, "ListDeadLetters", "deadLetters", request, doing=doing)
    if as_json:
        print_json(found)
        return
    print_table(
        ("LETTER", "TIME", "TYPE", "REASON", "ATTEMPTS", "STATE", "ERROR"),
        [
            (
                str(one["name"]).rpartition("/")[2],
                one["deadTime"],
                one["type"],
                _reason(one),
                str(one.get("attempts", 0)),
                _state(one),
                one.get("error", ""),
            )
            for one in found
        ],
        empty=f"{full} has no such dead letters.",
    )


@dead_letters.command("get")
@click.argument("subscription")
@click.argument("letter")
@subscriber_option
@json_option
@broker_option
def get_dead_letter(*, subscription: str, letter: str, subscriber: str, as_json: bool, broker: Broker) -> None:
    """Show one dead letter, with its event and what became of its attempts."""
    name = _letter_name(subscription_name(subscription, subscriber), letter)
    answer = broker.call(DELIVERY_SERVICE, "GetDeadLetter", {"name": name}, doing=f"Reading {name}")
    if as_json:
        print_json(answer)
        return
    one = answer["deadLetter"]
    print_facts(
        [
            ("name", one["name"]),
            ("event", one["event"]),
            ("type", one["type"]),
            ("source", one["source"]),
            ("event id", one["eventId"]),
            ("accepted", one["acceptTime"]),
            ("given up on", one["deadTime"]),
            ("reason", _reason(one)),
            ("error", one.get("error", "")),
            ("attempts", str(one.get("attempts", 0))),
            ("state", _state(one)),
        ]
    )
    for attempt in answer.get("attempts", []):
        click.echo(plain(f"{attempt['attemptTime']}  attempt {attempt['number']}  {outcome(attempt)}"))
    click.echo(plain(compact(answer.get("event", {}))))


@dead_letters.command()
@click.argument("subscription")
@click.argument("letters", nargs=-1)
@subscriber_option
@click.option("--all", "everything", is_flag=True, help="All of them, or all that the other options choose.")
@choosing_options
@click.option(
    "--wait", is_flag=True, help="Wait until all of it is settled. Ends with 1 if some are dead letters again."
)
@json_option
@broker_option
@click.pass_context
def replay(
    ctx: click.Context,
    *,
    subscription: str,
    letters: tuple[str, ...],
    subscriber: str,
    everything: bool,
    pattern: str | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    wait: bool,
    as_json: bool,
    broker: Broker,
) -> None:
    """Deliver dead letters once more: LETTERS, or --all.

    Each stays a dead letter until it is settled. What was interrupted can be said again: nothing is handed over twice.
    """
    full = subscription_name(subscription, subscriber)
    chosen = _chosen(full, letters, _filter(pattern, reason, since, until), everything=everything)
    left = 0
    with _progress("Replaying", _total(broker, full, chosen)) as shown:
        done, busy = _go_through(broker, "ReplayDeadLetters", ("replayedCount", "replayingCount"), chosen, shown)
    if wait:
        left = _wait(broker, full, chosen, done + busy)
    if as_json:
        print_json({"replayedCount": done, "replayingCount": busy} | ({"deadAgain": left} if wait else {}))
    else:
        click.echo(f"Replayed {done} of {full}." + (f" {busy} more were on their way already." if busy else ""))
        if wait:
            click.echo(f"{left} are dead letters again." if left else "All of it is settled.")
    if left:
        ctx.exit(ExitCode.REFUSED)


@dead_letters.command()
@click.argument("subscription")
@click.argument("letters", nargs=-1)
@subscriber_option
@click.option("--all", "everything", is_flag=True, help="All of them, or all that the other options choose.")
@choosing_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@broker_option
def purge(
    *,
    subscription: str,
    letters: tuple[str, ...],
    subscriber: str,
    everything: bool,
    pattern: str | None,
    reason: str | None,
    since: str | None,
    until: str | None,
    yes: bool,
    as_json: bool,
    broker: Broker,
) -> None:
    """Forget dead letters for good: LETTERS, or --all. What is being replayed is left alone."""
    full = subscription_name(subscription, subscriber)
    chosen = _chosen(full, letters, _filter(pattern, reason, since, until), everything=everything)
    if not yes:
        what = f"{len(letters)} dead letters" if letters else "the dead letters that were chosen"
        click.confirm(f"Forget {what} of {full} for good?", abort=True, err=True)
    with _progress("Purging", _total(broker, full, chosen)) as shown:
        done, busy = _go_through(broker, "PurgeDeadLetters", ("purgedCount", "replayingCount"), chosen, shown)
    if as_json:
        print_json({"purgedCount": done, "replayingCount": busy})
    else:
        click.echo(f"Purged {done} of {full}." + (f" {busy} are being replayed and stay." if busy else ""))


def outcome(attempt: Document) -> str:
    """Says for a person what became of an attempt."""
    status = str(attempt["status"]) if "status" in attempt else attempt.get("failure", "")
    return " ".join(part for part in (status, attempt.get("error", "")) if part)


def _letter_name(subscription: str, letter: str) -> str:
    return letter if "/" in letter else f"{subscription}/{COLLECTION}/{letter.removeprefix('events/')}"


def _filter(pattern: str | None, reason: str | None, since: str | None, until: str | None) -> Document:
    wanted = {
        "pattern": pattern,
        "reason": None if reason is None else REASONS[reason],
        "startTime": since,
        "endTime": until,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _chosen(full: str, letters: Sequence[str], wanted: Document, *, everything: bool) -> Sequence[Document]:
    """Returns the requests that say which dead letters are meant. Raises `click.UsageError` where it is not clear."""
    if letters and (everything or wanted):
        raise click.UsageError("Give LETTERS, or --all with what chooses among them, and not both.")
    if not letters and not everything and not wanted:
        raise click.UsageError("Say which: give LETTERS, or --all, or what chooses among them.")
    if not letters:
        return [{"parent": full, "filter": wanted}]
    names = [_letter_name(full, letter) for letter in letters]
    return [{"parent": full, "names": names[start : start + AT_ONCE]} for start in range(0, len(names), AT_ONCE)]


def _go_through(
    broker: Broker, method: str, counts: tuple[str, str], requests: Sequence[Document], shown: Shown
) -> tuple[int, int]:
    """Calls until everything that is meant has been gone through; returns how much was done and how much was busy."""
    done = busy = 0
    for request in requests:
        token = ""
        while True:
            try:
                answer = broker.call(
                    DELIVERY_SERVICE, method, request | {"pageToken": token}, doing="Going through them"
                )
            except CallRefused as refused:
                if refused.refusal.reason != Reason.BUFFER_FULL or not refused.refusal.retry_delay:
                    raise
                time.sleep(refused.refusal.retry_delay)
                continue
            done, busy = done + answer.get(counts[0], 0), busy + answer.get(counts[1], 0)
            shown(done + busy)
            token = answer.get("nextPageToken", "")
            if not token:
                break
    return done, busy


def _total(broker: Broker, full: str, chosen: Sequence[Document]) -> int:
    """Returns how much is to be gone through at most."""
    if "names" in chosen[0]:
        return sum(len(request["names"]) for request in chosen)
    return int(_first_page(broker, full, {}).get("totalSize", 0))


def _first_page(broker: Broker, full: str, wanted: Document) -> Document:
    request = {"parent": full, "filter": wanted, "pageSize": 1}
    return broker.call(DELIVERY_SERVICE, "ListDeadLetters", request, doing=f"Looking at the dead letters of {full}")


def _wait(broker: Broker, full: str, chosen: Sequence[Document], total: int) -> int:
    """Waits until nothing is on its way once more, and returns how much of what was chosen is dead again.

    Raises `click.ClickException` where that would be for ever: nothing goes out to a subscription that stands still.
    """
    names = {name for request in chosen for name in request.get("names", ())}
    request: Document = {"parent": full, "filter": chosen[0].get("filter", {})}
    with _progress("Settling", total) as shown:
        while True:
            left = int(_first_page(broker, full, {}).get("replayingSize", 0))
            if not left:
                doing = f"Listing the dead letters of {full}"
                found = broker.pages(DELIVERY_SERVICE, "ListDeadLetters", "deadLetters", request, doing=doing)
                meant = [one for one in found if not names or one["name"] in names]
                # Whoever sees only some event types is not told how many there are, but sees it of those.
                left = sum(bool(one.get("replaying")) for one in meant)
                if not left:
                    shown(total)
                    return len(meant)
            shown(max(0, total - left))
            if state := _standing_still(broker, full):
                raise click.ClickException(
                    f"{full} is {state}: {left} deliveries go out once it is resumed (`certes subscriptions resume`)."
                )
            time.sleep(LOOK_EVERY)


def _standing_still(broker: Broker, full: str) -> str:
    """Returns the state of a subscription to which nothing goes out; empty if it is active, or the caller must not know."""
    try:
        read = broker.call(SUBSCRIPTION_SERVICE, "GetSubscription", {"name": full}, doing=f"Reading {full}")
    except CallRefused:
        return ""
    state = str(read["subscription"]["state"]).removeprefix("STATE_").lower()
    return "" if state == _ACTIVE else state


@contextmanager
def _progress(doing: str, total: int) -> Iterator[Shown]:
    """Shows on a terminal how much is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    # Imported here because only a terminal needs it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done: progress.update(task, completed=done)


def _reason(letter: Document) -> str:
    return str(letter.get("reason", "REASON_UNSPECIFIED")).removeprefix("REASON_").lower().replace("_", "-")


def _state(letter: Document) -> str:
    return "replaying" if letter.get("replaying") else "dead"
