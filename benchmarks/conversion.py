"""Measures JSON → message and back, beside `json_format`: `python -m benchmarks.conversion [--rounds N]`.

Both ways of each pair work on the same GitHub push of 8 KB, in turns, so that a machine that drifts does so under both; what
counts is the ratio of their medians. The second table is how long one turn of the event loop took at most while large
bodies were converted, in time of the loop's own thread: what other processes do meanwhile is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson
import uvloop
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage

from certes.v1.event_pb2 import Event
from certes_broker.broker.conversion import Conversion, JsonData
from certes_broker.broker.intake import Intake
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.broker.workers import Workers
from certes_broker.domain.errors import Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.open_namespaces import NONE_OPEN
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.event_schema import EventSchema
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.json_out import PAYLOAD
from certes_broker.schemas.json_text import read_json
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.worker.answers import Answers

PUSH: Final = "community.certes.dev/github/1/push"
PUSH_BYTES: Final = 8_000
LARGE: Final = (120 * 1024, 256 * 1024, 1024 * 1024, 3 * 1024 * 1024)
CALLS: Final = 50
"""Calls of each way in one turn of a round."""


def main() -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.conversion", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns of each way (default: 40)")
    arguments = parser.parse_args()
    registry = Registry(community_versions())
    # As the broker does it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)
    _show_ratios(registry.lookup(PUSH), arguments.rounds)
    uvloop.run(_show_turns(registry))
    return 0


def payload(size: int) -> bytes:
    """Returns a push of about so many bytes, with as many commits as that takes."""
    account = {
        "login": "octocat", "id": 21031067, "node_id": "MDQ6VXNlcjIxMDMxMDY3", "gravatar_id": "", "type": "User",
        "site_admin": False, **{f"{name}_url": f"https://api.github.com/users/octocat/{name}" for name in _ACCOUNT_URLS},
    }  # fmt: skip
    repository = {
        "id": 186853002, "name": "hello-world", "full_name": "octocat/hello-world", "private": False, "owner": account,
        "fork": False, "size": 0, "stargazers_count": 0, "language": None, "has_issues": True, "default_branch": "main",
        **{f"{name}_url": f"https://api.github.com/repos/octocat/hello-world/{name}" for name in _REPOSITORY_URLS},
    }  # fmt: skip
    commit = {
        "id": "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "tree_id": "f9d2a07e9488b91af2641b26b9407fe22a451433",
        "distinct": True, "message": "Update the README: größer", "timestamp": "2019-05-15T15:20:33+02:00",
        "url": "https://github.com/octocat/hello-world/commit/6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "author": {"name": "Octo Cat", "email": "octocat@example.com", "username": "octocat"},
        "committer": {"name": "Octo Cat", "email": "octocat@example.com", "username": "octocat"},
        "added": ["docs/one.md"], "removed": [], "modified": ["README.md", "src/main.py"],
    }  # fmt: skip
    push = {
        "ref": "refs/heads/main", "before": "0" * 40, "after": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "created": False, "deleted": False, "forced": False, "base_ref": None, "commits": [], "head_commit": commit,
        "repository": repository, "sender": account,
    }  # fmt: skip
    missing = (size - len(orjson.dumps(push))) // (len(orjson.dumps(commit)) + 1)
    return orjson.dumps({**push, "commits": [commit] * max(1, missing)})


_ACCOUNT_URLS: Final = (
    "followers",
    "following",
    "gists",
    "starred",
    "subscriptions",
    "organizations",
    "repos",
    "events",
)
_REPOSITORY_URLS: Final = (
    *(
        "forks",
        "keys",
        "collaborators",
        "teams",
        "hooks",
        "issue_events",
        "events",
        "assignees",
        "branches",
        "tags",
        "blobs",
    ),
    *("git_tags", "git_refs", "trees", "statuses", "languages", "stargazers", "contributors", "subscribers", "commits"),
    *(
        "comments",
        "issue_comment",
        "contents",
        "compare",
        "merges",
        "archive",
        "downloads",
        "issues",
        "pulls",
        "labels",
    ),
)


def _show_ratios(schema: EventSchema, rounds: int) -> None:
    body = payload(PUSH_BYTES)
    document = orjson.loads(body)
    message: Any = schema.from_json(document)
    new: Any = type(message)

    def parse(text: bytes) -> bytes:
        wire: bytes = json_format.Parse(text, new(), ignore_unknown_fields=True).SerializeToString(deterministic=True)
        return wire

    def written() -> dict[str, Any]:
        return json_format.MessageToDict(
            message,
            preserving_proto_field_name=PAYLOAD.proto_field_names,
            always_print_fields_with_no_presence=PAYLOAD.with_defaults,
        )

    pairs: tuple[tuple[str, Callable[[], Any], Callable[[], Any]], ...] = (
        (
            "document → message: `ParseDict`",
            lambda: schema.from_json(document),
            lambda: json_format.ParseDict(document, new(), ignore_unknown_fields=True),
        ),
        (
            "text → wire: `Parse`",
            lambda: schema.encode(schema.from_json(read_json(body, Reason.PAYLOAD_MALFORMED))),
            lambda: parse(body),
        ),
        ("message → document: `MessageToDict`", lambda: schema.to_json(message), written),
        (
            "text → document: `orjson.loads`",
            lambda: read_json(body, Reason.PAYLOAD_MALFORMED),
            lambda: orjson.loads(body),
        ),
    )
    print(f"A push of {len(body):,} bytes, {message.ByteSize():,} as a message.\n")
    print("| what, beside what | here | there | ratio |\n|---|---|---|---|")
    for what, ours, theirs in pairs:
        assert ours() == theirs()
        here, there = _medians(ours, theirs, rounds)
        print(f"| {what} | {here:.1f} µs | {there:.1f} µs | {there / here:.1f} |")


def _medians(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float]:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for way, times in zip((ours, theirs), taken, strict=True):
            began = time.thread_time()
            for _ in range(CALLS):
                way()
            times.append((time.thread_time() - began) / CALLS * 1e6)
    return statistics.median(taken[0]), statistics.median(taken[1])


class _Turns:
    """Notes how long the turns of the loop are."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest = max(self.longest, now - self._last)
            self._last = now

    async def of(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """Does work and returns what it returns, and the longest turn meanwhile, in milliseconds."""
        await asyncio.sleep(0)
        self.longest, self._last = 0.0, time.thread_time()
        result = await work()
        await asyncio.sleep(0)
        return result, self.longest * 1e3


async def _show_turns(registry: Registry) -> None:
    documents = EventDocuments(registry)
    schema = registry.lookup(PUSH)
    async with asyncio.TaskGroup() as tasks:
        undisturbed = Undisturbed(tasks)
        workers = Workers(undisturbed, Answers(registry).answer)
        conversion = Conversion(documents, workers)
        reader = EventReader(registry, max_event_bytes=max(LARGE) * 2)
        intake = Intake(reader, conversion, _Unwatched(), max(LARGE) * 2, NONE_OPEN)
        turns = _Turns()
        ticking = tasks.create_task(turns.run())
        print("\n| body | JSON in | event validated | webhook JSON out | without workers |")
        print("|---|---|---|---|---|")
        for size in LARGE:
            body = payload(size)

            async def read(body: bytes = body) -> JsonData:
                found = await conversion.read(body, [("ref",)])
                return await found.data(schema)

            for _ in range(3):
                await read()  # starts the worker, and finds its memory
            read_data, taken_in = await turns.of(read)
            data = AnyMessage(type_url=schema.type_url, value=read_data.value)
            wire = Event(id="a", type=PUSH, source="//b", everyone=True, data=data).SerializeToString()
            _, validated = await turns.of(partial(intake.read, wire, Micros(1)))
            _, sent = await turns.of(partial(conversion.webhook_body, wire, Format.CLOUDEVENTS_JSON))
            began = time.thread_time()
            schema.to_json(schema.from_json(read_json(body, Reason.PAYLOAD_MALFORMED)))
            reader.read(wire, Micros(1))
            at_once = (time.thread_time() - began) * 1e3
            print(
                f"| {len(body) >> 10} KiB | {taken_in:.2f} ms | {validated:.2f} ms | {sent:.2f} ms | {at_once:.1f} ms |"
            )
        ticking.cancel()
        await undisturbed.finished()
        await workers.close()


class _Unwatched:
    def noticed(self, *_: object) -> None:
        """Takes no note of drift."""


if __name__ == "__main__":
    sys.exit(main())
