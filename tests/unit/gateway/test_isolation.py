"""Whoever is bound to a subscriber learns nothing of what another has, by any rpc that there is.

What is asked is generated from the contract's descriptors and `isolation_cases`, so a new rpc is covered or fails.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, assert_never

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from certes.v1 import delivery_service_pb2 as deliveries
from certes.v1 import event_service_pb2 as events
from certes.v1 import subscription_service_pb2 as subscriptions
from certes_broker.broker.broker import Broker, Ports
from certes_broker.broker.kept_events import PAGES_SCANNED
from certes_broker.domain.access import LOCAL_OPERATOR, Bindings, Caller, Role, check_needs
from certes_broker.domain.certificate_grants import CertificateGrant, Identity, IdentityKind, caller_of
from certes_broker.domain.errors import CertesError, OutOfRange, Reason
from certes_broker.domain.events import BEGINNING, Micros, Position
from certes_broker.domain.uris import parse_pattern
from certes_broker.engines.memory import MemoryEngine
from certes_broker.gateway.callers import acting_as
from certes_broker.gateway.contract import contract_methods
from certes_broker.gateway.convert.sources import SourceRules
from certes_broker.gateway.guard import guarded
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.gateway.methods import BidiStream, Method, ServerStream, Unary, needs_of
from certes_broker.gateway.open_streams import OpenStreams
from certes_broker.ports.engine import Attempt
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.providers import shipped_providers
from certes_broker.schemas.registry import Registry
from tests.fakes.broker_world import SETTINGS
from tests.fakes.manual_clock import ManualClock
from tests.fakes.scripted_sender import ScriptedSender
from tests.unit.gateway.isolation_cases import CASES, OWN, OWN_WEBHOOK, PATTERN, SHARED, Things, event

PROTOS = Path(__file__).resolve().parents[3] / "proto" / "certes" / "v1"
VERSIONS = tuple(community_versions())
BOUND = Bindings(frozenset({"org_1"}), frozenset({"//one"}))
BY_KEY = Caller("apiKeys/one", frozenset(Role), BOUND)
OF_A_TYPE = Caller("apiKeys/type", frozenset(Role), Bindings(types=frozenset({parse_pattern(PATTERN)})))
SHOWN = Identity(IdentityKind.URI, "spiffe://example.com/one/eu")
GRANT = CertificateGrant(IdentityKind.URI, "spiffe://example.com/one/*", frozenset(Role), BOUND)
UNTIL = Micros(ManualClock().now() + 3_600_000_000)
SELECTING = {"parent": "subscribers/org_1", "selectors": [{"pattern": PATTERN}]}
ABSENT = Things(
    "subscribers/org_9",
    "subscribers/org_9/subscriptions/nothing",
    "subscribers/org_9/subscriptions/naught",
    "subscribers/org_9/subscriptions/nothing/streams/x",
    f"events/{'0' * 32}",
    "e9",
)


@pytest.fixture(params=["key", "certificate"])
def org_1(request: pytest.FixtureRequest) -> Caller:
    """Whoever is bound to org_1, by each kind of credential that can be."""
    if request.param == "key":
        return BY_KEY
    caller = caller_of([SHOWN], [GRANT], UNTIL)
    assert caller is not None
    return caller


def rpcs() -> dict[str, MethodDescriptor]:
    found: dict[str, MethodDescriptor] = {}
    for proto in sorted(PROTOS.glob("*.proto")):
        for service in import_module(f"certes.v1.{proto.stem}_pb2").DESCRIPTOR.services_by_name.values():
            found |= {f"{service.name}.{rpc.name}": rpc for rpc in service.methods}
    return found


RPCS = rpcs()
BOUND_MAY_CALL = [name for name, rpc in RPCS.items() if not needs_of(rpc).unbound]


@dataclass
class World:
    """A broker and its methods, as a transport has them."""

    broker: Broker
    methods: dict[str, Method]
    engine: MemoryEngine

    async def ask(self, caller: Caller, name: str, request: Message) -> Message | CertesError:
        """Returns the answer, or the first one of a stream; or the refusal."""
        method = self.methods[name]
        wire = request.SerializeToString()
        try:
            with acting_as(caller):
                check_needs(caller, method.needs, method.name)
                match method.call:
                    case Unary(call):
                        answer = await call(wire)
                    case ServerStream(stream):
                        async with aclosing(stream(wire)) as answers:
                            answer = await anext(answers)
                    case BidiStream(exchange):
                        answer = await _exchanged(exchange, wire)
                    case _:
                        assert_never(method.call)
        except CertesError as error:
            return error
        return method.response.FromString(answer)


async def _exchanged(exchange: Any, wire: bytes) -> bytes:
    answers: list[bytes] = []

    async def requests() -> AsyncIterator[bytes]:
        yield wire

    async def send(answer: bytes) -> None:
        answers.append(answer)

    await exchange(requests(), send, asyncio.Event())
    return answers[0]


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A world in which org_1 has an event, and a subscription of each kind."""
    clock = ManualClock()
    engine = MemoryEngine(clock)
    ports = Ports(engine, ScriptedSender(), clock)
    async with Broker.running(ports, Registry(VERSIONS), SETTINGS) as broker:
        rules = SourceRules(shipped_providers(), allow_unsigned=True)
        methods = contract_methods(broker, Ingestion(broker, rules.providers), rules)
        streams = OpenStreams(clock)
        made = World(broker, {f"{m.service.rpartition('.')[2]}.{m.name}": guarded(m, streams) for m in methods}, engine)
        await _furnish(made, "org_1", "//one", "e1", (OWN, OWN_WEBHOOK))
        yield made
        await broker.drain()


async def _furnish(made: World, subscriber: str, source: str, event_id: str, names: tuple[str, str]) -> str:
    """Gives a subscriber two subscriptions and an event, whose name it returns."""
    deliveries: tuple[dict[str, Any], ...] = ({"stream": {}}, {"webhook": {"url": "https://a.example.com/"}})
    for name, delivery in zip(names, deliveries, strict=True):
        parent, _, subscription_id = name.partition("/subscriptions/")
        request = subscriptions.CreateSubscriptionRequest(
            parent=parent,
            subscription_id=subscription_id,
            subscription={"selectors": [{"pattern": PATTERN}], **delivery},
        )
        answer = await made.ask(LOCAL_OPERATOR, "SubscriptionService.CreateSubscription", request)
        assert not isinstance(answer, CertesError), answer
    published = await made.ask(
        LOCAL_OPERATOR, "EventService.Publish", events.PublishRequest(events=[event(subscriber, event_id, source)])
    )
    assert isinstance(published, events.PublishResponse), published
    return published.results[0].name


@asynccontextmanager
async def with_others(made: World) -> AsyncIterator[Things]:
    """Gives org_2 things of each kind: a stream that is open with a delivery out on it, too."""
    names = ("subscribers/org_2/subscriptions/there", "subscribers/org_2/subscriptions/thither")
    name = await _furnish(made, "org_2", "//two", "e2", names)
    subscribe = made.methods["EventService.Subscribe"].call
    assert isinstance(subscribe, ServerStream)
    with acting_as(LOCAL_OPERATOR):
        async with aclosing(
            subscribe.call(events.SubscribeRequest(subscription=names[0]).SerializeToString())
        ) as frames:
            stream = events.SubscribeResponse.FromString(await anext(frames)).opened.stream
            await anext(frames)
            yield Things("subscribers/org_2", *names, stream, name, "e2")


def told(answer: Message | CertesError, things: Things) -> str:
    """What a caller is told, with the names that it sent itself, and what is random, left out."""
    if isinstance(answer, CertesError):
        text = repr(
            (type(answer), answer.reason, answer.message, answer.hint, dict(answer.metadata), answer.violations)
        )
    else:
        text = repr(MessageToDict(answer))
    token = things.event.removeprefix("events/")
    for mine in (
        things.stream,
        things.webhook,
        things.subscription,
        things.parent,
        things.subscriber,
        things.event,
        token,
    ):
        text = text.replace(mine, "<theirs>")
    text = text.replace(f"'{things.event_id}'", "<theirs>")
    text = re.sub(r"events/[0-9a-f]{32}", "<event>", text)
    return re.sub(r"streams/[\w-]{22,}|'etag': '\w+'|'(nextPageToken|secret)': '[\w=-]+'", "<random>", text)


def test_every_rpc_that_bound_callers_may_call_has_a_case() -> None:
    """Give it one in isolation_cases.py, or declare in its proto that it is for callers who are bound to nobody."""
    assert set(BOUND_MAY_CALL) == CASES.keys() | SHARED.keys()


def test_every_rpc_of_the_contract_is_served() -> None:
    async def served() -> set[str]:
        async with world() as made:
            return set(made.methods)

    assert asyncio.run(served()) == RPCS.keys()


@pytest.mark.parametrize("name", sorted(RPCS.keys() - set(BOUND_MAY_CALL)))
async def test_what_belongs_to_no_subscriber_is_not_for_bound_callers(name: str, org_1: Caller) -> None:
    rpc = RPCS[name]
    with pytest.raises(CertesError, match=f"{org_1.id} is bound to some"):
        check_needs(org_1, needs_of(rpc), rpc.name)


@pytest.mark.parametrize("name", CASES)
async def test_what_is_anothers_is_answered_as_what_does_not_exist(name: str, org_1: Caller) -> None:
    async with world() as made, with_others(made) as theirs:
        before = told(await made.ask(LOCAL_OPERATOR, "EventService.ListEvents", ALL_EVENTS), ABSENT)
        pairs = zip(CASES[name].others(theirs), CASES[name].others(ABSENT), strict=True)
        for existing, absent in pairs:
            found = await made.ask(org_1, name, existing)
            nothing = await made.ask(org_1, name, absent)
            assert told(found, theirs) == told(nothing, ABSENT)
            assert _is_refused(found), found
        # Nothing of theirs has changed: their stream still has what it had, and they may do what they did.
        assert told(await made.ask(LOCAL_OPERATOR, "EventService.ListEvents", ALL_EVENTS), ABSENT) == before
        settle = events.AcknowledgeRequest(stream=theirs.stream, acked=[{"first": 1, "last": 1}])
        assert not isinstance(await made.ask(LOCAL_OPERATOR, "EventService.Acknowledge", settle), CertesError)
        for subscription in (theirs.subscription, theirs.webhook):
            request = subscriptions.GetSubscriptionRequest(name=subscription)
            kept = await made.ask(LOCAL_OPERATOR, "SubscriptionService.GetSubscription", request)
            assert isinstance(kept, subscriptions.GetSubscriptionResponse)
            assert MessageToDict(kept)["subscription"]["state"] == "STATE_ACTIVE"


@pytest.mark.parametrize("name", CASES)
async def test_what_was_anothers_and_is_no_longer_kept_is_answered_as_what_never_was(name: str, org_1: Caller) -> None:
    async with world() as made, with_others(made) as theirs:
        await made.engine.journal.trim((await made.engine.journal.bounds()).last)
        for trimmed, absent in zip(CASES[name].others(theirs), CASES[name].others(ABSENT), strict=True):
            answers = [await made.ask(org_1, name, trimmed), await made.ask(org_1, name, absent)]
            assert told(answers[0], theirs) == told(answers[1], ABSENT)


AT_NO_TIME = Timestamp(seconds=1)


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("EventService.Subscribe", events.SubscribeRequest(ephemeral={**SELECTING, "start": {"time": AT_NO_TIME}})),
        (
            "SubscriptionService.CreateSubscription",
            subscriptions.CreateSubscriptionRequest(
                parent="subscribers/org_1",
                subscription_id="new",
                subscription={"selectors": [{"pattern": PATTERN}], "stream": {}},
                start={"time": AT_NO_TIME},
            ),
        ),
        (
            "SubscriptionService.SeekSubscription",
            subscriptions.SeekSubscriptionRequest(name=OWN, target={"time": AT_NO_TIME}),
        ),
    ],
)
async def test_which_event_is_the_earliest_is_told_to_those_alone_who_see_every_event(
    name: str, request_: Message, org_1: Caller
) -> None:
    async with world() as made, with_others(made):
        await made.engine.journal.trim(Position((await made.engine.journal.bounds()).last - 1))
        refusals = [await made.ask(caller, name, request_) for caller in (LOCAL_OPERATOR, org_1, OF_A_TYPE)]
        assert [isinstance(one, OutOfRange) and one.reason for one in refusals] == [Reason.CURSOR_EXPIRED] * 3
        assert [sorted(one.metadata) for one in refusals if isinstance(one, CertesError)] == [
            ["earliest", "earliest_time"],
            [],
            [],
        ]


async def test_a_page_of_events_is_full_although_thousands_of_anothers_lie_in_between(org_1: Caller) -> None:
    async with world() as made:
        (mine,) = (await made.engine.journal.read(BEGINNING, 1, 1)).entries
        theirs = mine.event._replace(subscriber="org_2", id="", digest=None)
        for _ in range(PAGES_SCANNED + 1):
            await made.engine.journal.append([theirs] * 1_000)
        await made.engine.journal.append([mine.event._replace(id="", digest=None)])
        answer = await made.ask(org_1, "EventService.ListEvents", events.ListEventsRequest(parent="subscribers/org_1"))
        assert isinstance(answer, events.ListEventsResponse)
        assert (len(answer.events), answer.next_page_token) == (2, "")


async def test_of_a_subscription_to_everybody_s_events_a_caller_is_shown_what_is_of_its_own(org_1: Caller) -> None:
    everything = "subscribers/org_1/subscriptions/everything"
    other_types = Bindings(types=frozenset({parse_pattern("community.certes.dev/github/1/push")}))
    of_another_type = Caller("apiKeys/push", frozenset(Role), other_types)
    async with world() as made, with_others(made):
        wanted = {"selectors": [{"pattern": PATTERN}], "scope": "SCOPE_ALL_SUBSCRIBERS", "stream": {}}
        request = subscriptions.CreateSubscriptionRequest(
            parent="subscribers/org_1", subscription_id="everything", subscription=wanted
        )
        assert not isinstance(
            await made.ask(LOCAL_OPERATOR, "SubscriptionService.CreateSubscription", request), CertesError
        )
        entries = (await made.engine.journal.read(BEGINNING, 10, 1 << 20)).entries
        assert [entry.event.subscriber for entry in entries] == ["org_1", "org_2"]
        tries = [Attempt(everything, one.position, 1, UNTIL, 0.1, 500, "", "", b"no", None) for one in entries]
        await made.engine.attempts.record([*tries, replace(tries[0], position=Position(999))])
        for caller, count in ((LOCAL_OPERATOR, 3), (org_1, 1), (of_another_type, 0)):
            shown = await made.ask(
                caller, "DeliveryService.ListAttempts", deliveries.ListAttemptsRequest(parent=everything)
            )
            assert isinstance(shown, deliveries.ListAttemptsResponse), shown
            assert len(shown.attempts) == count


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.own])
async def test_what_is_ones_own_is_answered_as_if_there_were_nobody_else(name: str, org_1: Caller) -> None:
    answers: list[list[str]] = []
    for is_alone in (True, False):
        async with world() as made:
            if is_alone:
                answers.append([told(await made.ask(org_1, name, request), ABSENT) for request in CASES[name].own])
            else:
                async with with_others(made):
                    answers.append([told(await made.ask(org_1, name, request), ABSENT) for request in CASES[name].own])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.own])
async def test_the_owner_itself_is_answered(name: str, org_1: Caller) -> None:
    """Or the others would be none the wiser because nobody is."""
    async with world() as made:
        for request in CASES[name].own:
            assert not isinstance(await made.ask(org_1, name, request), CertesError)


ALL_EVENTS = events.ListEventsRequest(parent="subscribers/-")


def _is_refused(answer: Message | CertesError) -> bool:
    return isinstance(answer, CertesError) or (
        isinstance(answer, events.PublishStreamResponse) and answer.WhichOneof("outcome") == "rejected"
    )
