"""Schemas.

Nothing untyped gets in. A change that could break a subscriber is refused with everything that it would break, and one that is accepted
is told. A registration is whole or has not happened, whatever crashes in its middle, and what is registered is usable at once everywhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import grpc
import httpx
import pytest
from google.protobuf import json_format

from certes.v1 import event_service_pb2 as events_pb
from certes.v1 import schema_service_pb2 as pb
from certes.v1 import system_events_pb2
from scripts.broker_process import BrokerProcess
from tests.acceptance.booking import BOOKED, DOMAIN, SOURCE, VERSION, booked, files, message_class, register
from tests.acceptance.client import connected, event, read_events, refusal
from tests.acceptance.conftest import StartBroker
from tests.acceptance.receiver import receiving


async def test_an_event_whose_type_has_no_schema_or_whose_bytes_are_not_its_message_is_refused(
    broker: BrokerProcess,
) -> None:
    unknown, garbled = event("unknown"), event("garbled")
    unknown.type = BOOKED
    garbled.data.value = b"\xff\xff\xff"
    async with connected(broker) as client:
        for bad in (unknown, garbled):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.publish([bad])
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, bad.id
        async with httpx.AsyncClient(base_url=f"http://{broker.http}", trust_env=False) as http:
            odd = {"id": "odd", "type": BOOKED, "source": "//meetly", "everyone": True, "data": {"by": "anna"}}
            answer = await http.post("/api/certes.v1.EventService/Publish", json={"events": [odd]})
            assert answer.status_code == 400, answer.text


async def test_a_type_that_is_registered_is_published_and_delivered_everywhere_at_once(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        everything = await client.create_stream("everything", f"{DOMAIN}/**")
        await client.create_webhook("hook", receiver.url, pattern=f"{DOMAIN}/rooms/*/booked")
        frames = client.subscribe(everything)
        await frames.read()
        await register(client)
        await client.publish([await booked(client, "typed", room={"building": "north", "number": 7}, by="anna")])
        async with httpx.AsyncClient(base_url=f"http://{broker.http}", trust_env=False) as http:
            as_json = {"id": "json", "type": BOOKED, "source": "//meetly", "everyone": True}
            data = {"room": {"building": "south", "number": 8}, "by": "berta"}
            answer = await http.post(
                "/api/certes.v1.EventService/Publish", json={"events": [{**as_json, "data": data}]}
            )
            assert answer.status_code == 200, answer.text
            cloud_event = {"specversion": "1.0", "id": "cloud", "type": BOOKED, "source": "//meetly", "everyone": True}
            content = json.dumps({**cloud_event, "data": data})
            answer = await http.post(
                "/events", content=content, headers={"content-type": "application/cloudevents+json"}
            )
            assert answer.status_code == 202, answer.text
        kind = await message_class(client)
        found = {
            event.id: json_format.MessageToDict(kind.FromString(event.data.value))
            for event in await read_events(frames, 3)
        }
        assert found == {
            "typed": {"room": {"building": "north", "number": 7}, "by": "anna"},
            "json": data,
            "cloud": data,
        }
        await receiver.until(lambda: len(receiver.taken) == 3)
        sent = {request.event_id: json.loads(request.arrival.body)["data"] for request in receiver.taken}
        assert sent == found


async def test_an_option_that_a_registered_type_declares_selects_its_events(broker: BrokerProcess) -> None:
    async with connected(broker) as client:
        await register(client)
        selector = events_pb.EphemeralSubscription(
            parent="subscribers/default", selectors=[{"pattern": BOOKED, "options": {"building": "north"}}]
        )
        frames = client.events.Subscribe(events_pb.SubscribeRequest(ephemeral=selector))
        await frames.read()
        await client.publish(
            [await booked(client, place, room={"building": place}) for place in ("south", "north", "west")]
        )
        assert [event.id for event in await read_events(frames, 1)] == ["north"]


async def test_a_compatible_change_is_told_and_an_incompatible_one_is_refused_with_its_list(
    broker: BrokerProcess,
) -> None:
    async with connected(broker) as client:
        await register(client)
        frames = client.subscribe(await client.create_stream("versions", VERSION))
        await frames.read()
        changed = await register(client, SOURCE.replace("string by = 2;", "string by = 2;\n  string note = 3;"))
        assert changed.schemas[0].revision == 2
        [told] = await read_events(frames, 1)
        update = system_events_pb2.VersionUpdate()
        assert told.data.Unpack(update)
        assert (told.type, told.everyone, update.backwards_compatible) == (VERSION, True, True)
        assert (update.old.revision, update.new.revision) == (1, 2)
        assert [change.element for change in update.changes] == ["meetly.rooms.v1.Booked.note"]
        breaking = SOURCE.replace("string by = 2;", "bytes by = 2;").replace("int32 number = 2;", "")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await register(client, breaking)
        assert refusal(refused.value) == (grpc.StatusCode.FAILED_PRECONDITION, "SCHEMA_INCOMPATIBLE")
        check = pb.CheckCompatibilityRequest(files=files(breaking))
        [comparison] = (await client.schemas.CheckCompatibility(check)).comparisons
        assert {change.element for change in comparison.changes if change.breaking} >= {
            "meetly.rooms.v1.Booked.by",
            "meetly.rooms.v1.Room.number",
        }
        next_version = breaking.replace("rooms.v1;", "rooms.v2;")
        request = pb.RegisterSchemasRequest()
        request.files.files.add(path="meetly/rooms/v2/booked.proto", content=next_version)
        await client.schemas.RegisterSchemas(request)
        [told] = await read_events(frames, 1)
        assert told.data.Unpack(update)
        assert (told.type, update.backwards_compatible, update.new.version) == (VERSION, False, 2)


@pytest.mark.parametrize("end", [BrokerProcess.terminate, BrokerProcess.kill9])
async def test_what_is_registered_is_there_after_a_restart(
    broker: BrokerProcess, end: Callable[[BrokerProcess], object]
) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("app", f"{DOMAIN}/**")
        registered = await register(client)
        await client.publish([await booked(client, "before", by="anna")])
        await asyncio.to_thread(end, broker)
        await asyncio.to_thread(broker.start)
        frames = client.subscribe(name)
        shown = await client.schemas.GetSchema(pb.GetSchemaRequest(type=BOOKED), wait_for_ready=True)
        assert shown.schema == registered.schemas[0]
        assert shown.version.descriptor_set == registered.versions[0].descriptor_set
        assert shown.version.sources[0].content == SOURCE
        await client.publish([await booked(client, "after", by="berta")])
        assert [event.id for event in await read_events(frames, 2)] == ["before", "after"]
        assert not (await register(client)).comparisons[0].changes


async def test_killed_in_the_middle_of_registering_it_has_all_versions_or_none_and_tells_of_each_once(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    request = pb.RegisterSchemasRequest()
    for version in (1, 2, 3):
        text = SOURCE.replace("rooms.v1;", f"rooms.v{version};")
        request.files.files.add(path=f"meetly/rooms/v{version}/booked.proto", content=text)
    async with connected(broker) as client:
        frames = client.subscribe(await client.create_stream("versions", f"{DOMAIN}/rooms/*/_version"))
        await frames.read()
        registering = asyncio.ensure_future(client.schemas.RegisterSchemas(request))  # noqa: TID251 (a call is no coroutine)
        # The first event that is told of comes before the answer.
        await read_events(frames, 1)
        await asyncio.to_thread(broker.kill9)
        await asyncio.gather(registering, return_exceptions=True)
        await asyncio.to_thread(broker.start)
        listed = await client.schemas.ListSchemas(pb.ListSchemasRequest(domain=DOMAIN), wait_for_ready=True)
        assert [schema.type for schema in listed.schemas] == [
            f"{DOMAIN}/rooms/{version}/booked" for version in (1, 2, 3)
        ]
        frames = client.subscribe("subscribers/default/subscriptions/versions")
        again = await read_events(frames, 3)
        assert sorted(event.type for event in again) == [f"{DOMAIN}/rooms/{version}/_version" for version in (1, 2, 3)]
        assert not any((await client.schemas.RegisterSchemas(request)).comparisons[0].changes)
