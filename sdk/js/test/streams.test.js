/** Deliveries by stream, with a broker that does what the test says. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { PushEventSchema } from "@certes/contrib/github";
import { RawContentSchema } from "../gen/certes/v1/event_pb.js";
import { Client } from "../dist/client.js";
import { afterEnd } from "../dist/delivery_stream.js";
import { errorOfStatus } from "../dist/errors.js";
import { plainStatus } from "../dist/rpc_status.js";
import { cutText, Settlements } from "../dist/settlements.js";
import { Arrivals, batch, delivery, FakeBroker, filesOf, heartbeat, opened } from "./fake_broker.js";
import { ManualClock } from "./manual_clock.js";
import { rejected } from "./vectors.js";

const PUSH = "community.certes.dev/github/1/push";
const SUBSCRIPTION = "subscribers/default/subscriptions/app";

let broker;
let clock;
let client;
let warnings;

beforeEach(async () => {
  broker = await FakeBroker.start();
  broker.schemas["community.certes.dev/github/1"] = filesOf(PushEventSchema);
  clock = new ManualClock();
  warnings = new Arrivals();
  client = new Client(broker.uri, { app: "app", concurrency: 4, logger: { warn: (...said) => warnings.push(said) } }, clock);
});

afterEach(async () => {
  const closed = client.close();
  clock.advance(30_000);
  await closed;
  await broker.stop();
});

const push = (ref, event = {}) => delivery(PUSH, PushEventSchema, { ref }, event);
const rangesOf = (ranges) => ranges.map(({ first, last }) => [Number(first), Number(last)]);

/** Starts the client, and returns its open stream. */
async function open(handler = () => {}) {
  client.on(PUSH, handler);
  await client.ensureSubscriptions([client.event(PUSH)]);
  const stream = await broker.calls.Subscribe.next();
  stream.send(opened);
  return stream;
}

/** The next Acknowledge, when what it waits for by itself is over. */
async function nextAcknowledge() {
  const { request } = await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
  return {
    acked: rangesOf(request.acked),
    nacked: request.nacked,
    extended: rangesOf(request.extended.map(({ range }) => range)),
    request,
  };
}

suite("a subscription", () => {
  test("is made of what is listed, and leaves alone what operators set", async () => {
    await client.ensureSubscriptions([
      client.event(PUSH),
      client.event("Community.certes.dev/github/1/push"),
      client.event("d/a/*/**", { repo: "a/b", size: 3, bot: false, none: "" }),
    ]);
    const { request } = await broker.calls.UpdateSubscription.next();
    assert.deepEqual([request.subscription.name, request.allowMissing], [SUBSCRIPTION, true]);
    assert.deepEqual(request.updateMask.paths, ["selectors", "filter", "stream"]);
    assert.deepEqual(
      request.subscription.selectors.map(({ pattern, options }) => [pattern, options]),
      [
        [PUSH, {}],
        ["d/a/*/**", { repo: "a/b", size: "3", bot: "false" }],
      ],
    );
  });

  test("can have a name and a filter of its own, a generation, and a webhook", async () => {
    const other = new Client(
      broker.uri,
      { app: "app", generation: 7, callbackUrl: "https://a.example/hook", subscriber: "org_1" },
      clock,
    );
    await other.ensureSubscriptions(other.event(PUSH), { name: "bulk", filter: "true" });
    const { request } = await broker.calls.UpdateSubscription.next();
    const { name, filter, generation, delivery: kind } = request.subscription;
    assert.deepEqual([name, filter, generation], ["subscribers/org_1/subscriptions/app:bulk", "true", 7n]);
    assert.deepEqual([kind.case, kind.value.url], ["webhook", "https://a.example/hook"]);
    assert.deepEqual(request.updateMask.paths, ["selectors", "filter", "generation", "webhook.url"]);
    await other.close();
  });

  test("is tried again where a refusal is retryable, for 30 s at most", async () => {
    broker.answers.UpdateSubscription = undefined;
    const ensured = client.ensureSubscriptions(client.event(PUSH));
    (await broker.calls.UpdateSubscription.next()).refuse(14, "DRAINING");
    const again = await clock.advanceUntil(broker.calls.UpdateSubscription.next());
    again.answer({ subscription: { name: SUBSCRIPTION } });
    await ensured;
    const refused = rejected(client.ensureSubscriptions(client.event(PUSH)));
    (async () => {
      for (;;) (await broker.calls.UpdateSubscription.next()).refuse(14, "DRAINING");
    })();
    const before = clock.time;
    assert.equal((await clock.advanceUntil(refused)).reason, "DRAINING");
    assert.ok(clock.time - before <= 30_000);
  });

  test("that is refused is the caller's", async () => {
    broker.answers.UpdateSubscription = undefined;
    const refused = rejected(client.ensureSubscriptions(client.event(PUSH)));
    (await broker.calls.UpdateSubscription.next()).refuse(9, "STALE_GENERATION");
    assert.equal((await refused).reason, "STALE_GENERATION");
  });

  for (const [why, reason, call] of [
    ["without an application", "APP_MISSING", () => new Client("events://localhost:1").ensureSubscriptions([])],
    ["of what is no selector", "FIELD_INVALID", () => client.ensureSubscriptions(["d/a/1/x"])],
    ["with a name that is none", "FIELD_INVALID", () => client.ensureSubscriptions(client.event(PUSH), { name: "a/b" })],
    ["before init", "NOT_INITIALIZED", () => new Client().ensureSubscriptions([])],
  ]) {
    test(`${why} is refused: ${reason}`, async () => assert.equal((await rejected(call())).reason, reason));
  }
});

suite("an event", () => {
  test("comes as its message, with what is known of it", async () => {
    const come = new Arrivals();
    const stream = await open((raw, meta) => come.push([raw, meta]));
    assert.equal(stream.request.maxOutstanding, 1000);
    stream.send(batch(1, [push("refs/heads/größe", { subject: "meetly/app" })]));
    const [raw, meta] = await come.next();
    assert.deepEqual([raw.$typeName, raw.ref], [PushEventSchema.typeName, "refs/heads/größe"]);
    assert.deepEqual([meta.id, meta.type, meta.subject, meta.attempt], ["1", PUSH, "meetly/app", 1]);
    assert.deepEqual((await nextAcknowledge()).acked, [[1, 1]]);
  });

  test("of a type without a schema comes as raw content", async () => {
    const come = new Arrivals();
    client.on("d/open/1/note", (raw) => come.push(raw));
    const stream = await open();
    const event = { content: { case: "raw", value: { contentType: "text/plain", bytes: Buffer.from("hello") } } };
    stream.send(batch(1, [delivery("d/open/1/note", RawContentSchema, {}, event)]));
    const raw = await come.next();
    assert.deepEqual(
      [raw.$typeName, raw.contentType, Buffer.from(raw.bytes).toString()],
      ["certes.v1.RawContent", "text/plain", "hello"],
    );
  });

  test("is acknowledged when all its handlers have returned, in their order", async () => {
    const order = [];
    let finish;
    const waited = new Promise((resolve) => (finish = resolve));
    client.on(PUSH, async () => {
      await waited;
      order.push("first");
    });
    const stream = await open(() => order.push("second"));
    stream.send(batch(1, [push("a")]));
    finish();
    assert.deepEqual((await nextAcknowledge()).acked, [[1, 1]]);
    assert.deepEqual(order, ["first", "second"]);
  });

  for (const [why, handler, reason] of [
    [
      "whose handler throws",
      () => {
        throw new Error("boom");
      },
      "Error: boom",
    ],
    [
      "whose handler rejects",
      async () => {
        throw new Error("boom");
      },
      "Error: boom",
    ],
    [
      "whose handler throws what has no text",
      () => {
        throw Object.create(null);
      },
      "something that has no text was raised",
    ],
    [
      "whose handler fails with a long text",
      () => {
        throw "ß".repeat(2000);
      },
      "ß".repeat(512),
    ],
  ]) {
    test(`${why} is told to the broker at once, and said`, async () => {
      const stream = await open(handler);
      stream.send(batch(1, [push("a")]));
      const { nacked } = await nextAcknowledge();
      assert.deepEqual([rangesOf(nacked.map(({ range }) => range)), nacked[0].reason], [[[1, 1]], reason]);
      assert.match((await warnings.next())[0], /was not handled/);
    });
  }

  test("that nobody handles fails", async () => {
    const stream = await open();
    stream.send(batch(1, [delivery("d/a/1/x", PushEventSchema, {})]));
    const { nacked } = await nextAcknowledge();
    assert.match(nacked[0].reason, /^NO_HANDLER: /);
    assert.equal((await warnings.next())[1].reason, "NO_HANDLER");
  });

  test("that does not decode fails, and the next is handled", async () => {
    const broken = push("a");
    broken.event.content.value.value = Buffer.from([0x0a, 0xff]);
    const stream = await open();
    stream.send(batch(1, [broken, push("b")]));
    const { nacked, acked } = await nextAcknowledge();
    assert.match(nacked[0].reason, /^DATA_MALFORMED: /);
    assert.deepEqual(acked.length === 0 ? (await nextAcknowledge()).acked : acked, [[2, 2]]);
  });
});

suite("schemas", () => {
  test("are fetched once for all events that wait for one", async () => {
    const stream = await open();
    stream.send(
      batch(
        1,
        Array.from({ length: 20 }, (_, index) => push(String(index))),
      ),
    );
    await nextAcknowledge();
    assert.equal(broker.calls.GetSchema.waiting, 1);
  });

  test("are fetched again when an event has fields that they do not know, once a minute", async () => {
    const come = new Arrivals();
    const stream = await open((raw) => come.push(raw));
    const newer = (ordinal) => {
      const one = push("a");
      one.event.content.value.value = Buffer.concat([one.event.content.value.value, Buffer.from([0xc0, 0xbb, 0x04, 1])]);
      stream.send(batch(ordinal, [one]));
      return come.next();
    };
    assert.equal((await newer(1)).$unknown.length, 1);
    clock.advance(40_000);
    await newer(2);
    assert.equal(broker.calls.GetSchema.waiting, 1);
    clock.advance(20_000);
    await newer(3);
    await newer(4);
    assert.equal(broker.calls.GetSchema.waiting, 2);
  });
});

suite("acknowledgements", () => {
  test("go together, and while one is under way the others wait", async () => {
    broker.answers.Acknowledge = undefined;
    const stream = await open();
    stream.send(batch(1, [push("a"), push("b")]));
    const first = await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
    stream.send(batch(3, [push("c", { orderingKey: "k" })]));
    stream.send(batch(4, [push("d"), push("e")]));
    first.answer();
    const second = await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
    assert.deepEqual(rangesOf(first.request.acked), [[1, 2]]);
    assert.deepEqual(rangesOf(second.request.acked), [[3, 5]]);
    second.answer();
  });

  test("leave out an ordinal that is not outstanding, and tell the rest", async () => {
    broker.answers.Acknowledge = undefined;
    const stream = await open();
    stream.send(batch(1, [push("a"), push("b"), push("c")]));
    const first = await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
    first.refuse(3, "ORDINAL_NOT_OUTSTANDING", { metadata: { ordinal: "2" } });
    const second = await broker.calls.Acknowledge.next();
    assert.deepEqual(rangesOf(second.request.acked), [
      [1, 1],
      [3, 3],
    ]);
    second.answer();
  });

  test("are tried again where a refusal is retryable", async () => {
    broker.answers.Acknowledge = undefined;
    const stream = await open();
    stream.send(batch(1, [push("a")]));
    (await clock.advanceUntil(broker.calls.Acknowledge.next(), 10)).refuse(14, "BUSY", { retryAfter: 2 });
    const second = await clock.advanceUntil(broker.calls.Acknowledge.next(), 2000);
    assert.deepEqual(rangesOf(second.request.acked), [[1, 1]]);
    second.answer();
  });

  test("of a stream that has ended are let go of", async () => {
    broker.answers.Acknowledge = undefined;
    const stream = await open();
    stream.send(batch(1, [push("a")]));
    (await clock.advanceUntil(broker.calls.Acknowledge.next(), 10)).refuse(9, "STREAM_ENDED");
    stream.end();
    const again = await broker.calls.Subscribe.next();
    again.send(opened);
    again.send(batch(1, [push("b")]));
    const second = await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
    assert.deepEqual(rangesOf(second.request.acked), [[1, 1]]);
    second.answer();
  });

  test("wait for nothing where a quarter of what may be unsettled is waiting, or something has a key or has failed", () => {
    const settle = (act) => {
      const settlements = new Settlements(8);
      act(settlements);
      return settlements.isUrgent;
    };
    assert.equal(
      settle((s) => s.ack(1, "")),
      false,
    );
    assert.equal(
      settle((s) => (s.ack(1, ""), s.ack(2, ""))),
      true,
    );
    assert.equal(
      settle((s) => s.ack(1, "k")),
      true,
    );
    assert.equal(
      settle((s) => s.nack(1, "no")),
      true,
    );
  });

  test("go as soon as a quarter of what may be unsettled is waiting", async () => {
    const other = new Client(broker.uri, { app: "app", maxOutstanding: 8 }, clock);
    other.on(PUSH, () => {});
    await other.ensureSubscriptions(other.event(PUSH));
    const stream = await broker.calls.Subscribe.next();
    assert.equal(stream.request.maxOutstanding, 8);
    stream.send(opened);
    stream.send(batch(1, [push("a"), push("b")]));
    // The clock stands still, so that it does not wait for more.
    assert.deepEqual(rangesOf((await broker.calls.Acknowledge.next()).request.acked), [[1, 2]]);
    await other.close();
  });

  test("of a stream that has ended are not tried again", async () => {
    broker.answers.Acknowledge = undefined;
    const stream = await open();
    stream.send(batch(1, [push("a")]));
    (await clock.advanceUntil(broker.calls.Acknowledge.next(), 10)).refuse(14, "BUSY", { retryAfter: 2 });
    await clock.whenWaiting(2000);
    stream.end();
    await clock.advanceUntil(broker.calls.Subscribe.next(), 0);
    assert.equal(clock.waits.includes(2000), false);
    assert.equal(broker.calls.Acknowledge.waiting, 0);
  });

  test("have at most 1,000 ranges", () => {
    const settlements = new Settlements(100_000);
    for (let ordinal = 1; ordinal <= 2400; ordinal += 2) settlements.ack(ordinal, "");
    settlements.nack(5000, "no");
    const first = settlements.take();
    assert.deepEqual([first.acked.length, first.nacked.length, settlements.isEmpty], [1000, 0, false]);
    const second = settlements.take();
    assert.deepEqual([second.acked.length, second.nacked.length, settlements.isEmpty], [200, 1, true]);
  });

  test("do not extend what was settled before they went", () => {
    const settlements = new Settlements(100);
    settlements.extend([1, 2, 3]);
    settlements.ack(1, "");
    settlements.nack(2, "no");
    const { acked, nacked, extended } = settlements.take();
    assert.deepEqual([acked, nacked.map(({ ordinal }) => ordinal), extended], [[[1, 1]], [2], [[3, 3]]]);
    assert.ok(settlements.isEmpty);
  });

  test("cut a text at the end of a character", () => {
    for (const [text, bytes] of [
      ["abc", 2],
      ["ßß", 3],
      ["😀😀", 7],
      ["", 1],
    ]) {
      const cut = cutText(text, bytes);
      assert.ok(Buffer.byteLength(cut) <= bytes && text.startsWith(cut) && bytes - Buffer.byteLength(cut) < 4, cut);
    }
  });
});

suite("a handler that runs", () => {
  test("has its delivery's time extended, each third of it", async () => {
    broker.answers.UpdateSubscription = ({ subscription }) => ({
      subscription: { ...subscription, ackDeadline: durationFromMs(9000) },
    });
    let finish;
    const begun = new Arrivals();
    const stream = await open(() => new Promise((resolve) => begun.push((finish = resolve))));
    stream.send(batch(1, [push("a")]));
    await begun.next();
    for (let round = 0; round < 3; round += 1) {
      await clock.whenWaiting(3000);
      clock.advance(3000);
      const { request } = await broker.calls.Acknowledge.next();
      assert.deepEqual(
        [rangesOf(request.extended.map(({ range }) => range)), request.extended[0].deadline.seconds],
        [[[1, 1]], 9n],
      );
    }
    finish();
    assert.deepEqual((await nextAcknowledge()).acked, [[1, 1]]);
  });

  test("has its delivery's time extended for an hour at most", async () => {
    broker.answers.UpdateSubscription = ({ subscription }) => ({
      subscription: { ...subscription, ackDeadline: durationFromMs(90_000) },
    });
    const extended = new Arrivals();
    broker.answers.Acknowledge = (request) => (request.extended.length > 0 && extended.push(request), {});
    const handled = new Arrivals();
    const stream = await open((raw) => (raw.ref === "slow" ? new Promise((finish) => handled.push(finish)) : handled.push(raw)));
    stream.send(batch(1, [push("slow")]));
    const finish = await handled.next();
    for (let round = 1; round <= 125; round += 1) {
      // An event each time, so that the stream is not taken for dead.
      stream.send(batch(1 + round, [push("fast")]));
      await handled.next();
      clock.advance(30_000);
      if (round < 120) assert.deepEqual(rangesOf((await extended.next()).extended.map(({ range }) => range)), [[1, 1]]);
    }
    finish();
    while (broker.calls.Acknowledge.waiting > 0) await broker.calls.Acknowledge.next();
    await clock.advanceUntil(broker.calls.Acknowledge.next(), 10);
    assert.equal(extended.waiting, 0);
  });

  test("has a place, and others wait for theirs", async () => {
    const begun = new Arrivals();
    const stream = await open((raw) => new Promise((resolve) => begun.push([raw.ref, resolve])));
    stream.send(
      batch(
        1,
        ["a", "b", "c", "d", "e"].map((ref) => push(ref)),
      ),
    );
    const running = [await begun.next(), await begun.next(), await begun.next(), await begun.next()];
    assert.deepEqual([running.map(([ref]) => ref), begun.waiting], [["a", "b", "c", "d"], 0]);
    running[2][1]();
    assert.equal((await begun.next())[0], "e");
  });

  test("when its stream ends runs to its end, and concerns nobody", async () => {
    const begun = new Arrivals();
    const stream = await open(() => new Promise((resolve) => begun.push(resolve)));
    stream.send(batch(1, [push("a")]));
    const finish = await begun.next();
    stream.end();
    const again = await broker.calls.Subscribe.next();
    again.send(opened);
    finish();
    again.send(batch(1, [push("b")]));
    (await begun.next())();
    assert.deepEqual((await nextAcknowledge()).acked, [[1, 1]]);
    assert.equal(broker.calls.Acknowledge.waiting, 0);
  });
});

suite("a stream", () => {
  test("that says nothing for 45 s is dead", async () => {
    const stream = await open();
    stream.send(heartbeat);
    await clock.whenWaiting(45_000);
    clock.advance(45_000);
    await stream.cancelled;
    const again = await clock.advanceUntil(broker.calls.Subscribe.next(), 0);
    assert.equal(again.request.target.value, SUBSCRIPTION);
  });

  test("that ends is opened again, at once the first time and then with back-off, which a batch ends", async () => {
    (await open()).end();
    (await clock.advanceUntil(broker.calls.Subscribe.next(), 0)).end();
    await clock.whenWaiting(75);
    clock.advance(75);
    (await broker.calls.Subscribe.next()).end();
    await clock.whenWaiting(150);
    clock.advance(150);
    const stream = await broker.calls.Subscribe.next();
    stream.send(opened);
    stream.send(batch(1, [push("a")]));
    await nextAcknowledge();
    stream.end();
    await clock.advanceUntil(broker.calls.Subscribe.next(), 0);
  });

  for (const [why, end] of [
    [
      "is closed by the deletion of its subscription",
      (stream) => (stream.send({ frame: { case: "closing", value: { reason: 2, message: "gone" } } }), stream.end()),
    ],
    ["is refused since there is no such subscription", (stream) => stream.refuse(5, "SUBSCRIPTION_NOT_FOUND")],
  ]) {
    test(`that ${why} ends for good: run raises`, async () => {
      client.on(PUSH, () => {});
      const running = rejected(client.run());
      end(await broker.calls.Subscribe.next());
      assert.match((await running).reason, /^SUBSCRIPTION_/);
    });
  }

  test("that is garbled is opened again", async () => {
    const stream = await open();
    stream.send(Buffer.from([0x12, 0xff, 0x01]));
    await stream.cancelled;
    await clock.advanceUntil(broker.calls.Subscribe.next(), 0);
  });

  test("that started by itself says that it has ended for good", async () => {
    (await open()).refuse(9, "SUBSCRIPTION_DELETED");
    assert.equal((await warnings.next())[1].reason, "SUBSCRIPTION_DELETED");
  });

  test("of which a frame has a batch without deliveries, an unknown kind or nothing at all goes on", async () => {
    const come = new Arrivals();
    const stream = await open((raw) => come.push(raw.ref));
    stream.send(batch(1, []));
    for (const bytes of [[], [0x7a, 0x01, 0x00], [0x98, 0x06, 0x01]]) stream.send(Buffer.from(bytes));
    stream.send(batch(1, [push("a")]));
    assert.equal(await come.next(), "a");
  });

  test("that is refused is said with run, too, which goes on", async () => {
    client.on(PUSH, () => {});
    const running = client.run();
    (await broker.calls.Subscribe.next()).refuse(9, "SUBSCRIPTION_NOT_STREAMABLE");
    assert.equal((await warnings.next())[1].reason, "SUBSCRIPTION_NOT_STREAMABLE");
    await clock.whenWaiting(30_000);
    clock.advance(30_000);
    await broker.calls.Subscribe.next();
    await client.close();
    await running;
  });

  test("that is refused is said, and tried again every 30 s", async () => {
    (await open()).refuse(7, "NOT_ALLOWED");
    assert.equal((await warnings.next())[1].reason, "NOT_ALLOWED");
    await clock.whenWaiting(30_000);
    clock.advance(30_000);
    await broker.calls.Subscribe.next();
  });

  test("decides what follows its end", () => {
    const error = (code) => errorOfStatus(plainStatus(code, "x"));
    assert.deepEqual(afterEnd(undefined, 1, 0), { wait: 0 });
    assert.deepEqual(afterEnd(error(14), 3, 1), { wait: 0.2 });
    assert.deepEqual(afterEnd(error(1), 2, 1), { wait: 0.1 }, "a broken connection is no refusal");
    assert.deepEqual(afterEnd(error(16), 1, 0), { wait: 30 });
  });
});

suite("close", () => {
  test("waits for handlers, tells what they settled, and begins nothing more", async () => {
    const begun = new Arrivals();
    const stream = await open((raw) => new Promise((resolve) => begun.push([raw.ref, resolve])));
    stream.send(
      batch(
        1,
        ["a", "b", "c", "d", "e"].map((ref) => push(ref)),
      ),
    );
    const running = [await begun.next(), await begun.next(), await begun.next(), await begun.next()];
    const closed = client.close();
    for (const [, finish] of running) finish();
    assert.deepEqual((await nextAcknowledge()).acked, [[1, 4]]);
    await closed;
    await stream.cancelled;
    assert.equal(begun.waiting, 0);
  });

  test("ends run, and so does its signal", async () => {
    const stop = new AbortController();
    client.on(PUSH, () => {});
    const running = client.run({ signal: stop.signal });
    const stream = await broker.calls.Subscribe.next();
    stop.abort();
    await running;
    await stream.cancelled;
    assert.equal((await rejected(client.run())).reason, "CLIENT_CLOSED");
    await client.close();
  });
});
