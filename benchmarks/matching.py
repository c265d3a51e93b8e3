"""Measures matching: `python -m benchmarks.matching [--rounds N]`.

All in one process, in its own thread's time, in turns: what counts is how a row changes along it, not how it compares to
another hour. The first tables are what finding the subscriptions of an event takes, whose number stays the same while those
that it does not concern become more: once for events that come again and again, and once for events each of which concerns
somebody else, so that what is looked up is seldom in the processor's caches. Then come what filters take, and the dearest
that one evaluation may be.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from google.protobuf.any_pb2 import Any as AnyMessage

from benchmarks.conversion import PUSH, payload
from certes.community.github.v1.commit_pb2 import Commit, GitUser
from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.event_pb2 import Event
from certes_broker.domain.events import Options
from certes_broker.domain.matching import Interest, RoutingTable, Selector
from certes_broker.domain.uris import parse_pattern
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.filters.evaluation import Failure
from certes_broker.schemas.filters.filters import Filters
from certes_broker.schemas.registry import Registry

SIZES: Final = (10, 100, 1_000, 10_000, 100_000)
LOOK_UPS: Final = 2_000
_FAR: Final = 7_919
FILTERS: Final = (1, 10, 100, 1_000)
MEGABYTE: Final = 1 << 20
_TYPES: Final = tuple(f"community.certes.dev/github/1/{name}" for name in ("push", "issues", "ping", "fork", "star"))


def main() -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.matching", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns of each measure (default: 15)")
    rounds = parser.parse_args().rounds
    # As the broker does it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)
    _show_look_ups(rounds)
    filters = Filters(Registry(community_versions()))
    _show_filters(filters, rounds)
    _show_dearest(filters, rounds)
    return 0


# Look-ups.


@dataclass(frozen=True, slots=True)
class _Wish:
    """One way to subscribe, of which there are many, and the event that reaches the last of them."""

    title: str
    interest: Callable[[int], Interest[int]]
    event: Callable[[int], tuple[str, str | None, Options]]


def _interest(number: int, pattern: str, options: Options = (), subscriber: str = "") -> Interest[int]:
    return Interest(number, subscriber or f"org_{number}", (Selector(parse_pattern(pattern), options),))


_WISHES: Final = (
    _Wish(
        "a type, each for its own subscriber",
        lambda number: _interest(number, _TYPES[number % 5]),
        lambda number: (_TYPES[number % 5], f"org_{number}", (("org", "meetly"), ("repo", "meetly/app"))),
    ),
    _Wish(
        "a type and a repository, all of one subscriber",
        lambda number: _interest(number, PUSH, (("repo", f"meetly/{number}"),), "org_1"),
        lambda number: (PUSH, "org_1", (("org", "meetly"), ("repo", f"meetly/{number}"))),
    ),
    _Wish(
        "a type and a repository, an event for everyone",
        lambda number: _interest(number, PUSH, (("repo", f"meetly/{number}"),)),
        lambda number: (PUSH, None, (("org", "meetly"), ("repo", f"meetly/{number}"))),
    ),
    _Wish(
        "a type, an organisation and a repository",
        lambda number: _interest(number, PUSH, (("org", f"org{number % 7}"), ("repo", f"meetly/{number}")), "org_1"),
        lambda number: (PUSH, "org_1", (("org", f"org{number % 7}"), ("repo", f"meetly/{number}"))),
    ),
    _Wish(
        "a pattern, each for its own subscriber",
        lambda number: _interest(number, ("community.certes.dev/github/1/*", "community.certes.dev/**")[number % 2]),
        lambda number: (_TYPES[number % 5], f"org_{number}", (("repo", "meetly/app"),)),
    ),
)


def _show_look_ups(rounds: int) -> None:
    for title, different in (("the same ten again and again", 10), ("from all over", LOOK_UPS)):
        sizes = " | ".join(f"{size:,}" for size in SIZES)
        print(f"\n| a look-up among so many subscriptions, events {title} | {sizes} | last ÷ first |")
        print("|---" * (len(SIZES) + 2) + "|")
        for wish in _WISHES:
            tables = [_table_of(wish, size) for size in SIZES]
            taken: list[list[float]] = [[] for _ in SIZES]
            for _ in range(rounds):
                for size, table, times in zip(SIZES, tables, taken, strict=True):
                    times.append(_time_of_look_ups(wish, size, table, different))
            medians = [statistics.median(times) for times in taken]
            cells = " | ".join(f"{median:.2f} µs" for median in medians)
            print(f"| {wish.title} | {cells} | {medians[-1] / medians[0]:.2f} |")


def _table_of(wish: _Wish, size: int) -> RoutingTable[int]:
    table: RoutingTable[int] = RoutingTable()
    for number in range(size):
        table.put(wish.interest(number))
    return table


def _time_of_look_ups(wish: _Wish, size: int, table: RoutingTable[int], different: int) -> float:
    """Returns the microseconds of one look-up, of events each of which reaches one of `different` subscriptions."""
    events = [wish.event(number % different * _FAR % size) for number in range(LOOK_UPS)]
    match = table.match
    began = time.thread_time()
    for event_type, subscriber, options in events:
        match(event_type, subscriber, options)
    took = time.thread_time() - began
    assert all(len(match(*event)) == 1 for event in events)
    return took / LOOK_UPS * 1e6


# Filters.

_FILTERS: Final = (
    ("two fields", "data.repository.full_name == 'octocat/{}' && data.ref.startsWith('refs/heads/')"),
    ("attributes alone", "event.source == 'sources/{}' && event.attributes.size() == 0"),
    ("a loop over {commits} commits", "data.commits.exists(c, c.author.name == 'Ann {}')"),
    (
        "a loop in a loop",
        "data.commits.exists(c, c.author.name == 'Ann {}' && c.modified.exists(f, f.startsWith('docs/')))",
    ),
    ("a regular expression", "data.ref.matches('^refs/heads/release-{}-.*$')"),
)


def _event(message: PushEvent) -> bytes:
    data = AnyMessage()
    data.Pack(message)
    return Event(id="a", type=PUSH, source="sources/github", everyone=True, data=data).SerializeToString()


def _push() -> PushEvent:
    schema = Registry(community_versions()).lookup(PUSH)
    return PushEvent.FromString(schema.from_json(orjson.loads(payload(8_000))).SerializeToString())


def _show_filters(filters: Filters, rounds: int) -> None:
    message = _push()
    body = _event(message)
    print(f"\nA push of {len(body):,} bytes. Each filter is another text.\n")
    print(
        "| a filter of so many on one event | " + " | ".join(f"{many:,}" for many in FILTERS) + " | its first event |"
    )
    print("|---" * (len(FILTERS) + 2) + "|")
    for title, text in _FILTERS:
        cells = []
        for many in FILTERS:
            texts = [text.replace("{}", str(number)) for number in range(many)]
            times = [_time_of_filters(filters, body, texts) for _ in range(rounds + 1)]
            cells.append(f"{statistics.median(times[1:]):.1f} µs")
        fresh = [
            _time_of_filters(filters, body, [text.replace("{}", f"{turn}x{number}") for number in range(20)])
            for turn in range(rounds)
        ]
        print(
            f"| {title.format(commits=len(message.commits))} | {' | '.join(cells)} | {statistics.median(fresh):.0f} µs |"
        )
    same = [_time_of_filters(filters, body, [_FILTERS[0][1]] * 1_000) for _ in range(rounds)]
    print(f"\nThe same text 1,000 times: {statistics.median(same):.2f} µs each.")


def _time_of_filters(filters: Filters, body: bytes, texts: Sequence[str]) -> float:
    """Returns the microseconds that each of several filters takes for one event, which is read once."""
    turns = max(1, 20 // len(texts))
    began = time.thread_time()
    for _ in range(turns):
        question = filters.event(PUSH, body)
        for text in texts:
            question.passes(text)
    return (time.thread_time() - began) / turns / len(texts) * 1e6


# The dearest.

_MANY: Final = PushEvent(commits=[Commit(id=str(number), author=GitUser(name="Ann")) for number in range(9_000)])
_TREE: Final = PushEvent(commits=[Commit(added=[f"f{file}" for file in range(40)]) for _ in range(400)])
_LONG: Final = PushEvent(ref="ab" * (MEGABYTE // 2), commits=[Commit(message="x" * 40)] * 300)
_DEAR: Final = (
    ("copies of a megabyte", " || ".join(["data.ref == 'x'"] * 150), _LONG),
    ("a loop with much in it", "data.commits.all(c, " + " && ".join(["c.id != 'x'"] * 80) + ")", _MANY),
    ("a loop", "data.commits.all(c, c.author.name != 'x')", _MANY),
    ("a loop in a loop", "data.commits.all(c, c.added.all(f, f != 'x'))", _TREE),
    ("everything by everything", "data.commits.all(c, data.commits.all(d, c.id != d.id))", _MANY),
    ("a list that grows", "data.commits.map(c, c.id).size() > 0", _MANY),
    ("a regular expression over a megabyte", "data.ref.matches('(a|b)*a(a|b){20}c')", _LONG),
    ("a regular expression for each", "data.commits.all(c, c.message.matches('(x|y)*x(x|y){5}z') || true)", _LONG),
    ("sought in a megabyte", f"data.ref.contains('{'ab' * 50}c')", _LONG),
    ("made longer", "(data.ref + data.ref + data.ref).size() > 0", _LONG),
    ("literals", "[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, a + b + c < 99)))", _LONG),
)  # fmt: skip


def _show_dearest(filters: Filters, rounds: int) -> None:
    """Shortens each event until its evaluation is allowed, so that what is shown is the dearest that is."""
    print("\n| the dearest allowed | event | priced and evaluated | reading the event |")
    print("|---|---|---|---|")
    for title, text, largest in _DEAR:
        message = PushEvent()
        message.CopyFrom(largest)
        while _is_refused(filters, _event(message), text):
            if len(message.commits) > 1:
                del message.commits[len(message.commits) * 9 // 10 :]
            message.ref = message.ref[: len(message.ref) * 9 // 10]
        body = _event(message)
        asked = statistics.median(_time_of_one(filters, body, text) for _ in range(rounds)) / 1e3
        read = statistics.median(_time_of_one(filters, body, "data.deleted") for _ in range(rounds)) / 1e3
        print(f"| {title} | {len(body) / 1024:,.0f} KiB | {asked - read:.2f} ms | {read:.2f} ms |")


def _is_refused(filters: Filters, body: bytes, text: str) -> bool:
    return isinstance(filters.event(PUSH, body).passes(text), Failure)


def _time_of_one(filters: Filters, body: bytes, text: str) -> float:
    began = time.thread_time()
    filters.event(PUSH, body).passes(text)
    return (time.thread_time() - began) * 1e6


if __name__ == "__main__":
    sys.exit(main())
