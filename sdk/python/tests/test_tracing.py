"""Trace context: taken from the current span, and current in the handler."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.event_pb2 import Event
from tests.fakes.sdk_broker import PUSH

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test"), exporter


async def test_a_published_event_carries_the_current_span(broker, make_client, spans):
    tracer, _ = spans
    client = make_client()
    with tracer.start_as_current_span("sending") as span:
        await client.publish(PushEvent(), everyone=True)
        await client.publish(PushEvent(), everyone=True, traceparent=PARENT, tracestate="a=1")
    await client.publish(PushEvent(), everyone=True)
    events = [(await broker.published.get()).events[0] for _ in range(3)]
    context = span.get_span_context()
    assert events[0].traceparent.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert (events[1].traceparent, events[1].tracestate) == (PARENT, "a=1")
    assert events[2].traceparent == ""


async def test_a_handler_runs_with_the_events_trace_context(broker, make_client, spans):
    tracer, exporter = spans
    client = make_client()
    seen = {}

    @client.on(PUSH)
    async def handle(raw):
        await asyncio.sleep(0)
        with tracer.start_as_current_span(raw.id):
            pass

    @client.on(PUSH)
    def in_thread(raw):
        seen[raw.id] = trace.get_current_span().get_span_context()

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(50):
        tasks.create_task(client.run())
        stream = await broker.streams.get()
        stream.open()
        events = [
            Event(id="traced", type=PUSH, source="s", everyone=True, traceparent=PARENT, tracestate="a=1"),
            Event(id="plain", type=PUSH, source="s", everyone=True),
            Event(id="nonsense", type=PUSH, source="s", everyone=True, traceparent="?"),
        ]
        stream.deliver(*events)
        while len(seen) < 3:
            await broker.acknowledged.get()
        await client.close()
    spans_by_name = {span.name: span for span in exporter.get_finished_spans()}
    assert f"{spans_by_name['traced'].context.trace_id:032x}" == TRACE
    assert f"{spans_by_name['traced'].parent.span_id:016x}" == "b7ad6b7169203331"
    assert spans_by_name["plain"].parent is None
    assert spans_by_name["nonsense"].parent is None
    assert f"{seen['traced'].trace_id:032x}" == TRACE
    assert seen["traced"].trace_state.get("a") == "1"
    assert not seen["plain"].is_valid
