/** Trace context, where a program has OpenTelemetry's API. */

import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";
import { context, trace, TraceFlags } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { currentTrace, withTrace } from "../dist/tracing.js";
import { Arrivals, batch, delivery, FakeBroker, filesOf, opened } from "./fake_broker.js";

const PUSH = "community.certes.dev/github/1/push";
const PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

before(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(new BasicTracerProvider());
});

after(() => {
  context.disable();
  trace.disable();
});

suite("an event that is published", () => {
  async function published(t, options = {}) {
    const broker = await FakeBroker.start();
    t.after(() => broker.stop());
    const client = new Client(broker.uri, { app: "hub" });
    const span = trace.getTracer("test").startSpan("work");
    const sent = context.with(trace.setSpan(context.active(), span), () =>
      client.publish(PushEventSchema, {}, { everyone: true, ...options }),
    );
    const stream = await broker.calls.PublishStream.next();
    const { requestId, events } = await stream.requests.next();
    stream.send({ requestId, outcome: { case: "accepted", value: { count: 1 } } });
    await sent;
    await client.close();
    return { event: events[0], span: span.spanContext() };
  }

  test("carries the current span", async (t) => {
    const { event, span } = await published(t);
    assert.equal(event.traceparent, `00-${span.traceId}-${span.spanId}-01`);
  });

  test("carries what it is given instead", async (t) => {
    const { event } = await published(t, { traceparent: PARENT, tracestate: "a=1" });
    assert.deepEqual([event.traceparent, event.tracestate], [PARENT, "a=1"]);
  });

  test("carries nothing where there is no span", () => assert.equal(currentTrace(), undefined));
});

test("a handler runs with the event's trace context as its current one, also after it waited", async (t) => {
  const broker = await FakeBroker.start();
  t.after(() => broker.stop());
  broker.schemas["community.certes.dev/github/1"] = filesOf(PushEventSchema);
  const client = new Client(broker.uri, { app: "app" });
  const come = new Arrivals();
  client.on(PUSH, async () => {
    await new Promise(setImmediate);
    come.push(trace.getActiveSpan()?.spanContext());
  });
  await client.ensureSubscriptions(client.event(PUSH));
  const stream = await broker.calls.Subscribe.next();
  stream.send(opened);
  stream.send(
    batch(1, [
      delivery(PUSH, PushEventSchema, {}, { traceparent: PARENT, tracestate: "a=1" }),
      delivery(PUSH, PushEventSchema, {}),
    ]),
  );
  const [first, second] = [await come.next(), await come.next()];
  assert.deepEqual(
    [first.traceId, first.spanId, first.traceFlags, first.isRemote, first.traceState.get("a")],
    ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", TraceFlags.SAMPLED, true, "1"],
  );
  assert.equal(second, undefined);
  await client.close();
});

test("a trace context that is malformed counts as none", () => {
  for (const parent of [
    "",
    "00-0-0-01",
    PARENT.toUpperCase(),
    `01${PARENT.slice(2)}`,
    `00-${"0".repeat(32)}-b7ad6b7169203331-01`,
  ]) {
    assert.equal(
      withTrace(
        parent,
        () => "",
        () => trace.getActiveSpan(),
      ),
      undefined,
    );
  }
});
