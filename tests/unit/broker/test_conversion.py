"""What is small is converted at once, what is large or needs a careful look in a worker; what comes of it is the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.event_pb2 import Event
from certes_broker.broker.conversion import Conversion
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.subscriptions import Format
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.json_jobs import INLINE_BYTES, SMALL_BYTES, is_heavy
from certes_broker.schemas.registry import Registry
from tests.fakes.inline_workers import InlineWorkers

REGISTRY = Registry(community_versions())
PUSH = REGISTRY.lookup("community.certes.dev/github/1/push")
SMALL, MIDDLE, LARGE = 100, SMALL_BYTES + 1, INLINE_BYTES + 1


class Converting:
    """A conversion, and the names of what its workers did."""

    def __init__(self) -> None:
        self.workers = InlineWorkers(REGISTRY)
        self.conversion = Conversion(self.workers.documents, self.workers.as_workers())

    async def data(self, body: bytes) -> tuple[PushEvent, list[str]]:
        """Reads a push; returns the message and the paths of unknown keys that are new."""
        payload = await self.conversion.read(body)
        data = await payload.data(PUSH)
        return PushEvent.FromString(data.value), [key.path for key in data.new_keys]


def body(size: int, **members: Any) -> bytes:
    """A payload of at least so many bytes."""
    return json.dumps({"ref": "r", **members, "after": "x" * size}).encode()


@pytest.mark.parametrize(("size", "done"), [(SMALL, []), (MIDDLE, []), (LARGE, ["payload_values", "payload_data"])])
async def test_only_what_is_large_goes_to_a_worker(size, done):
    converting = Converting()
    message, _ = await converting.data(body(size, commits=[{"id": "a"}]))
    assert message == PushEvent(ref="r", after="x" * size, commits=[{"id": "a"}])
    assert converting.workers.done == done


@pytest.mark.parametrize(
    ("size", "done"), [(SMALL, []), (MIDDLE, ["payload_data"]), (LARGE, ["payload_values", "payload_data"])]
)
async def test_a_careful_look_at_what_is_not_small_is_left_to_a_worker(size, done):
    converting = Converting()
    with pytest.raises(Invalid) as refusal:
        await converting.data(body(size, commits=[{"id": 5}]))
    assert refusal.value.reason is Reason.DATA_MALFORMED
    assert [violation.field for violation in refusal.value.violations] == ["commits[0].id"]
    assert converting.workers.done == done


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_the_values_at_paths_are_those_of_strings_numbers_and_booleans(size):
    members = {"a": {"b": "text", "c": 5, "d": True, "e": None, "f": {}, "g": [], "h": 1.5}}
    paths = [("a", key) for key in "bcdefgh"] + [("a",), ("x", "y"), ("a", "b", "z"), ()]
    payload = await Converting().conversion.read(body(size, **members), paths)
    assert list(payload.values) == ["text", 5, True, None, None, None, 1.5, None, None, None, None]


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
async def test_an_unknown_key_is_told_once_however_it_came(size):
    converting = Converting()
    assert (await converting.data(body(size, extra=1, commits=[{"more": 1}])))[1] == ["extra", "commits.more"]
    assert (await converting.data(body(LARGE, extra=1)))[1] == []
    assert (await converting.data(body(SMALL, extra=1)))[1] == []
    assert (await converting.data(body(LARGE)))[1] == []
    assert converting.conversion.unknown_keys.counts == {PUSH.type_text: 3}


@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
@pytest.mark.parametrize("text", [b"[%b]", b"%b", b'{"a":1,"a":"%b"}', b'{"a":NaN,"b":"%b"}'])
async def test_a_body_that_is_no_object_is_refused_for_the_reason_that_is_asked_for(text, size):
    with pytest.raises(Invalid) as refusal:
        await Converting().conversion.read(text % (b" " * size), reason=Reason.MALFORMED_REQUEST)
    assert refusal.value.reason is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("text", "heavy"),
    [
        (b"[" + b"{}," * 4000 + b"{}]", False),  # small
        (b"[" + b"{}," * 8000 + b"{}]", True),
        (b"[" + b"1," * 60_000 + b"1]", True),
        (b'"' + b"x" * (INLINE_BYTES - 2) + b'"', False),
        (b'"' + b"x" * (INLINE_BYTES - 1) + b'"', True),
    ],
)
def test_a_text_is_heavy_if_it_is_long_or_has_very_many_parts(text, heavy):
    assert is_heavy(text) is heavy


@pytest.mark.parametrize(
    ("data", "done"),
    [
        (PushEvent(ref="x" * 20_000), []),
        (PushEvent(commits=[{"id": "a"}] * 100), []),
        (PushEvent(commits=[{}] * 10_000), ["webhook_body"]),
    ],
    ids=["a long text", "some messages", "many empty messages"],
)
async def test_an_event_of_few_bytes_that_becomes_much_json_is_rendered_in_a_worker(data, done):
    converting = Converting()
    event = Event(id="e", type=PUSH.type_text, source="//test", everyone=True)
    event.data.Pack(data)
    rendered = await converting.conversion.webhook_body(event.SerializeToString(), Format.CLOUDEVENTS_JSON)
    assert converting.workers.done == done
    assert json.loads(rendered.body)["data"] == PUSH.to_json(data)
