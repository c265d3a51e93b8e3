/** A client from `init` to `close`, with a broker that does what the test says. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { Arrivals, batch, delivery, FakeBroker, filesOf, opened } from "./fake_broker.js";
import { ManualClock } from "./manual_clock.js";
import { raised, rejected } from "./vectors.js";

const PUSH = "community.certes.dev/github/1/push";

let broker;
let clock;
let client;

beforeEach(async () => {
  broker = await FakeBroker.start();
  broker.schemas["community.certes.dev/github/1"] = filesOf(PushEventSchema);
  clock = new ManualClock();
  client = new Client(undefined, {}, clock);
});

afterEach(async () => {
  const closed = client.close();
  clock.advance(30_000);
  await closed;
  await broker.stop();
});

const init = (options = {}) => client.init(broker.uri, { app: "app", logger: { warn() {} }, ...options });
const push = (ref) => delivery(PUSH, PushEventSchema, { ref });
const publish = (ref) => client.publish(PushEventSchema, { ref }, { everyone: true });

async function subscribed() {
  await client.ensureSubscriptions(client.event(PUSH));
  const stream = await broker.calls.Subscribe.next();
  stream.send(opened);
  return stream;
}

async function acceptAll(stream) {
  for (;;) {
    const { requestId, events } = await stream.requests.next();
    stream.send({ requestId, outcome: { case: "accepted", value: { count: events.length } } });
  }
}

suite("init", () => {
  test("a second time is refused, unless the client was closed in between", async () => {
    init();
    const error = raised(init);
    assert.deepEqual([error.code, error.reason], ["FAILED_PRECONDITION", "ALREADY_INITIALIZED"]);
    await client.close();
    init();
    assert.equal(raised(() => new Client(broker.uri).init(broker.uri)).reason, "ALREADY_INITIALIZED");
  });

  test("that is refused leaves the client as it was", () => {
    assert.equal(raised(() => client.init("https://a")).reason, "MALFORMED_URI");
    init();
  });

  test("keeps the handlers that were registered before it", async () => {
    const come = new Arrivals();
    client.on(PUSH, (raw) => come.push(raw.ref));
    assert.equal(raised(() => client.on("no pattern", () => {})).reason, "MALFORMED_PATTERN");
    init();
    (await subscribed()).send(batch(1, [push("a")]));
    assert.equal(await come.next(), "a");
  });

  test("after close keeps the handlers too", async () => {
    const come = new Arrivals();
    client.on(PUSH, () => come.push("old"));
    init();
    await client.close();
    init();
    client.on(PUSH, () => come.push("new"));
    (await subscribed()).send(batch(1, [push("a")]));
    assert.deepEqual([await come.next(), await come.next()], ["old", "new"]);
  });
});

suite("while close drains", () => {
  /** Begins a handler that waits, and returns what lets it go on. */
  async function handling(handler) {
    const begun = new Arrivals();
    client.on(PUSH, async () => {
      await new Promise((resolve) => begun.push(resolve));
      await handler();
    });
    init();
    const stream = await subscribed();
    stream.send(batch(1, [push("a")]));
    return { goOn: await begun.next(), stream, begun };
  }

  test("handlers that still run may publish, and it waits for what they published", async () => {
    const receipts = [];
    const { goOn } = await handling(async () => {
      const all = client.publishAll([{ schema: PushEventSchema, message: {}, everyone: true, id: "b" }]);
      receipts.push(await publish("a"), ...(await all));
    });
    let isClosed = false;
    const closed = client.close().then(() => (isClosed = true));
    goOn();
    acceptAll(await broker.calls.PublishStream.next());
    const { answer } = await broker.calls.Publish.next();
    assert.equal(isClosed, false);
    answer({ results: [{ id: "b", name: "events/1" }] });
    const { request } = await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
    assert.deepEqual([receipts.length, Number(request.acked[0].last)], [2, 1]);
    await closed;
    assert.equal((await rejected(publish("b"))).reason, "CLIENT_CLOSED");
  });

  test("what is not theirs is refused", async () => {
    const { goOn } = await handling(() => {});
    const closed = client.close();
    assert.equal((await rejected(publish("a"))).reason, "CLIENT_CLOSED");
    assert.equal((await rejected(client.publishAll([]))).reason, "CLIENT_CLOSED");
    assert.equal((await rejected(client.ensureSubscriptions(client.event(PUSH)))).reason, "CLIENT_CLOSED");
    assert.equal(raised(() => client.on(PUSH, () => {})).reason, "CLIENT_CLOSED");
    assert.equal((await rejected(client.run())).reason, "CLIENT_CLOSED");
    goOn();
    await clock.advanceUntil(closed, 10);
  });

  test("deliveries that come are not begun", async () => {
    const { goOn, stream, begun } = await handling(() => {});
    const closed = client.close();
    stream.send(batch(2, [push("b")]));
    goOn();
    const { request } = await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
    assert.deepEqual([request.acked.length, Number(request.acked[0].last)], [1, 1]);
    await closed;
    assert.equal(begun.waiting, 0);
  });

  test("a handler that never settles is waited for 30 s, and what it does then concerns nobody", async () => {
    let late;
    const { goOn } = await handling(async () => (late = await rejected(publish("late"))));
    const closed = client.close();
    await clock.whenWaiting(30_000);
    clock.advance(30_000);
    await closed;
    goOn();
    await new Promise(setImmediate);
    assert.equal(late.reason, "CLIENT_CLOSED");
  });
});

test("close during a reconnect ends at once, and leaves nothing behind", async () => {
  client.on(PUSH, () => {});
  init();
  const stream = await subscribed();
  await broker.kill();
  await stream.cancelled;
  await clock.whenWaiting(75);
  await client.close();
  assert.deepEqual(clock.waits, []);
  broker = await FakeBroker.start();
});

test("two clients in a process know nothing of each other", async (t) => {
  const other = await FakeBroker.start();
  t.after(() => other.stop());
  const second = new Client(other.uri, { app: "other" }, clock);
  init();
  const [one, two] = [publish("a"), second.publish(PushEventSchema, {}, { everyone: true, source: "mine" })];
  const streams = [await broker.calls.PublishStream.next(), await other.calls.PublishStream.next()];
  for (const [index, source] of ["apps/app", "mine"].entries()) {
    const { requestId, events } = await streams[index].requests.next();
    assert.deepEqual(
      events.map((event) => event.source),
      [source],
    );
    streams[index].send({ requestId, outcome: { case: "accepted", value: { count: 1 } } });
  }
  await Promise.all([one, two]);
  await second.close();
  const again = publish("b");
  acceptAll(streams[0]);
  await again;
});
