/** Publishing, with a broker that does what the test says. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { create, createFileRegistry, setExtension } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema, MessageOptionsSchema } from "@bufbuild/protobuf/wkt";
import { PushEventSchema, StarEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { event as eventOption, file_certes_v1_options as optionsFile } from "../gen/certes/v1/options_pb.js";
import { FakeBroker } from "./fake_broker.js";
import { ManualClock } from "./manual_clock.js";
import { rejected } from "./vectors.js";

const PUSH = "community.certes.dev/github/1/push";
const EVERYONE = { everyone: true };

let broker;
let clock;
let client;

beforeEach(async () => {
  broker = await FakeBroker.start();
  clock = new ManualClock();
  client = new Client(broker.uri, { app: "hub" }, clock);
});

afterEach(async () => {
  const closed = client.close();
  clock.advance(30_000);
  await closed;
  await broker.stop();
});

const idsOf = ({ events }) => events.map(({ id }) => id);
const accept = ({ requestId, events }, outcome = {}) => ({
  requestId,
  outcome: { case: "accepted", value: { count: events.length, duplicates: 0, ...outcome } },
});
const reject = ({ requestId }, problem) => ({ requestId, outcome: { case: "rejected", value: problem } });
const publish = (id, options = {}) => client.publish(PushEventSchema, { ref: id }, { ...EVERYONE, id, ...options });

/** Answers all that comes, until a stop. */
async function acceptAll(stream) {
  for (;;) stream.send(accept(await stream.requests.next()));
}

suite("an event", () => {
  test("is of the client's source, its message's type, and for whom it is said to be", async () => {
    const sent = client.sendOutgoingEvent("org_123", PushEventSchema, create(PushEventSchema, { ref: "r" }), {
      ...{ subject: "meetly/app", orderingKey: "k", attributes: { a: "1" }, time: new Date(1000) },
    });
    const stream = await broker.calls.PublishStream.next();
    const request = await stream.requests.next();
    const [event] = request.events;
    assert.deepEqual([event.type, event.source, event.subject, event.orderingKey], [PUSH, "apps/hub", "meetly/app", "k"]);
    assert.deepEqual([event.audience.value, event.attributes.a, event.time.seconds], ["org_123", "1", 1n]);
    assert.match(event.id, /^[0-9a-f-]{36}$/);
    stream.send(accept(request));
    assert.deepEqual(await sent, { id: event.id, duplicate: false, name: "" });
  });

  test("with an id of its own says what became of it", async () => {
    const sent = [publish("a"), publish("b")];
    const stream = await broker.calls.PublishStream.next();
    const request = await stream.requests.next();
    assert.ok(request.returnResults);
    const results = [
      { id: "a", name: "events/1", duplicate: true },
      { id: "b", name: "events/2", duplicate: false },
    ];
    stream.send(accept(request, { results, duplicates: 1 }));
    assert.deepEqual(await Promise.all(sent), [
      { id: "a", name: "events/1", duplicate: true },
      { id: "b", name: "events/2", duplicate: false },
    ]);
  });

  test("carries the token of its client", async () => {
    const other = new Client(broker.uri, { app: "hub", token: "certes_1_x" }, clock);
    const sent = other.publish(PushEventSchema, {}, EVERYONE);
    const stream = await broker.calls.PublishStream.next();
    assert.deepEqual(stream.metadata.get("authorization"), ["Bearer certes_1_x"]);
    stream.send(accept(await stream.requests.next()));
    await sent;
    await other.close();
  });

  test("can be a message alone, where its schema was registered", async () => {
    const message = create(StarEventSchema, {});
    const error = await rejected(client.publish(message, EVERYONE));
    assert.equal(error.reason, "NOT_AN_EVENT_TYPE");
    assert.match(error.hint, /register\(StarEventSchema\)/);
    client.register(StarEventSchema);
    const sent = client.publish(message, EVERYONE);
    const stream = await broker.calls.PublishStream.next();
    stream.send(accept(await stream.requests.next()));
    await sent;
  });

  for (const [why, reason, call] of [
    ["without an audience", "AUDIENCE_MISSING", () => client.publish(PushEventSchema, {}, {})],
    ["for an empty subscriber", "AUDIENCE_MISSING", () => client.sendOutgoingEvent("", PushEventSchema, {})],
    ["for one and for all", "FIELD_INVALID", () => client.publish(PushEventSchema, {}, { subscriber: "a", everyone: true })],
    [
      "of a message that is no event",
      "NOT_AN_EVENT_TYPE",
      () => client.publish(PushEventSchema.field.repository.message, {}, EVERYONE),
    ],
    ["of no message at all", "FIELD_INVALID", () => client.publish({ ref: "r" }, EVERYONE)],
    ["of what does not fit", "FIELD_INVALID", () => client.publish(PushEventSchema, { ref: 7 }, EVERYONE)],
    ["at no time", "FIELD_INVALID", () => client.publish(PushEventSchema, {}, { ...EVERYONE, time: new Date(NaN) })],
    [
      "that is too large for any request",
      "EVENT_TOO_LARGE",
      () => client.publish(PushEventSchema, { ref: "x".repeat(4 << 20) }, EVERYONE),
    ],
    ["of a client without a source", "APP_MISSING", () => new Client(broker.uri).publish(PushEventSchema, {}, EVERYONE)],
    ["before init", "NOT_INITIALIZED", () => new Client().publish(PushEventSchema, {}, EVERYONE)],
  ]) {
    test(`${why} is refused: ${reason}`, async () => assert.equal((await rejected(call())).reason, reason));
  }

  test("of a closed client is refused", async () => {
    await client.close();
    assert.equal((await rejected(publish("a"))).reason, "CLIENT_CLOSED");
  });
});

suite("calls share requests", () => {
  test("those that are made together, and those that come while the last is not answered", async () => {
    const first = [publish("a"), publish("b")];
    const stream = await broker.calls.PublishStream.next();
    const one = await stream.requests.next();
    assert.deepEqual(idsOf(one), ["a", "b"]);
    const second = [publish("c"), publish("d")];
    const other = await stream.requests.next();
    assert.deepEqual(idsOf(other), ["c", "d"]);
    stream.send(accept(one));
    stream.send(accept(other));
    await Promise.all([...first, ...second]);
  });

  test("while four requests are unanswered, until one is full or answered", async () => {
    const sent = [];
    const stream = await (async () => (sent.push(publish("0")), broker.calls.PublishStream.next()))();
    const underWay = [await stream.requests.next()];
    for (const id of ["1", "2", "3"]) {
      sent.push(publish(id));
      underWay.push(await stream.requests.next());
    }
    sent.push(publish("4"), publish("5"));
    await new Promise(setImmediate);
    sent.push(publish("6"));
    stream.send(accept(underWay.shift()));
    underWay.push(await stream.requests.next());
    assert.deepEqual(idsOf(underWay.at(-1)), ["4", "5", "6"]);
    for (let index = 0; index < 64; index += 1) sent.push(publish(`full ${index}`));
    underWay.push(await stream.requests.next());
    assert.equal(underWay.at(-1).events.length, 64);
    for (const request of underWay) stream.send(accept(request));
    await Promise.all(sent);
  });

  test("and a result is told to those who asked for it", async () => {
    const sent = [publish("a"), client.publish(PushEventSchema, {}, EVERYONE)];
    const stream = await broker.calls.PublishStream.next();
    const request = await stream.requests.next();
    const results = request.events.map(({ id }) => ({ id, name: "events/1", duplicate: true }));
    stream.send(accept(request, { results, duplicates: 2 }));
    const [asked, other] = await Promise.all(sent);
    assert.deepEqual([asked.duplicate, asked.name], [true, "events/1"]);
    assert.deepEqual([other.duplicate, other.name], [false, ""]);
  });

  test("of one key at most one request is under way", async () => {
    const sent = [publish("k1", { orderingKey: "k" })];
    const stream = await broker.calls.PublishStream.next();
    const first = await stream.requests.next();
    sent.push(publish("k2", { orderingKey: "k" }), publish("x"));
    const second = await stream.requests.next();
    assert.deepEqual([idsOf(first), idsOf(second)], [["k1"], ["x"]]);
    stream.send(accept(first));
    const third = await stream.requests.next();
    assert.deepEqual(idsOf(third), ["k2"]);
    for (const request of [second, third]) stream.send(accept(request));
    await Promise.all(sent);
  });

  test("and wait for room where there is none", async () => {
    const bytes = 900_000;
    const sent = Array.from({ length: 45 }, (_, index) =>
      client.publish(PushEventSchema, { ref: "x".repeat(bytes) }, { ...EVERYONE, id: String(index) }),
    );
    const stream = await broker.calls.PublishStream.next();
    const underWay = [];
    for (let count = 0; count < 9; count += 1) underWay.push(await stream.requests.next());
    // 8 MiB are under way; the tenth goes when one of them was answered.
    assert.equal(stream.requests.waiting, 0);
    stream.send(accept(underWay.shift()));
    assert.deepEqual(idsOf(await stream.requests.next()), ["9"]);
    for (const request of underWay) stream.send(accept(request));
    stream.send(accept({ requestId: "10", events: [{}] }));
    acceptAll(stream);
    const receipts = await Promise.all(sent);
    assert.deepEqual(
      receipts.map(({ id }) => id),
      sent.map((_, index) => String(index)),
    );
  });
});

suite("a refusal", () => {
  test("of a request is told to each call alone", async () => {
    const sent = ["a", "bad", "b"].map((id) => publish(id));
    const stream = await broker.calls.PublishStream.next();
    stream.send(reject(await stream.requests.next(), { code: 3, reason: "UNKNOWN_EVENT_TYPE", message: "no" }));
    for (const id of ["a", "bad", "b"]) {
      const request = await stream.requests.next();
      assert.deepEqual(idsOf(request), [id]);
      stream.send(id === "bad" ? reject(request, { code: 3, reason: "UNKNOWN_EVENT_TYPE", message: "no" }) : accept(request));
    }
    const outcomes = await Promise.allSettled(sent);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.deepEqual([outcomes[1].reason.reason, outcomes[1].reason.code], ["UNKNOWN_EVENT_TYPE", "INVALID_ARGUMENT"]);
  });

  test("is not told again for a call that gave up meanwhile", async () => {
    const stop = new AbortController();
    const sent = [publish("a", { signal: stop.signal, orderingKey: "k" }), publish("b", { orderingKey: "k" })];
    const stream = await broker.calls.PublishStream.next();
    const request = await stream.requests.next();
    stop.abort();
    assert.equal((await rejected(sent[0])).code, "CANCELLED");
    stream.send(reject(request, { code: 3, reason: "FIELD_INVALID", message: "no" }));
    const again = await stream.requests.next();
    assert.deepEqual(idsOf(again), ["b"]);
    stream.send(accept(again));
    await sent[1];
  });

  test("keeps the order of a key while its events are told again", async () => {
    const sent = ["k1", "k2"].map((id) => publish(id, { orderingKey: "k" }));
    sent.push(publish("x"));
    const stream = await broker.calls.PublishStream.next();
    stream.send(reject(await stream.requests.next(), { code: 3, reason: "FIELD_INVALID", message: "no" }));
    const first = await stream.requests.next();
    const other = await stream.requests.next();
    assert.deepEqual([idsOf(first), idsOf(other)], [["k1"], ["x"]]);
    sent.push(publish("k3", { orderingKey: "k" }));
    stream.send(accept(first));
    stream.send(accept(other));
    const second = await stream.requests.next();
    assert.deepEqual(idsOf(second), ["k2"]);
    stream.send(accept(second));
    const third = await stream.requests.next();
    assert.deepEqual(idsOf(third), ["k3"]);
    stream.send(accept(third));
    await Promise.all(sent);
  });

  test("that is retryable is waited for as long as it says, and sent again with the same ids", async () => {
    const sent = publish("a");
    const stream = await broker.calls.PublishStream.next();
    const problem = { code: 8, reason: "BUFFER_FULL", message: "full", retryDelay: { seconds: 7n } };
    stream.send(reject(await stream.requests.next(), problem));
    await clock.whenWaiting(7000);
    clock.advance(7000);
    const again = await stream.requests.next();
    assert.deepEqual(idsOf(again), ["a"]);
    stream.send(accept(again));
    await sent;
  });

  test("of the stream is the verdict of all who wait for it", async () => {
    const sent = [publish("a"), publish("b")];
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    stream.refuse(16, "TOKEN_INVALID");
    for (const call of sent) assert.equal((await rejected(call)).reason, "TOKEN_INVALID");
  });
});

suite("a stream that breaks", () => {
  test("is opened again, and what was under way goes again with the same ids, before what came later", async () => {
    const sent = [publish("a"), publish("b")];
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    stream.refuse(14, "DRAINING");
    await clock.whenWaiting(75);
    sent.push(publish("c"));
    clock.advance(75);
    const again = await broker.calls.PublishStream.next();
    const requests = [await again.requests.next(), await again.requests.next()];
    assert.deepEqual(requests.map(idsOf), [["a", "b"], ["c"]]);
    for (const request of requests) again.send(accept(request));
    await Promise.all(sent);
  });

  test("with a broker that was killed, and is another after its start", async () => {
    const sent = publish("a");
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    const httpPort = broker.http.address().port;
    await broker.kill();
    await clock.whenWaiting(75);
    broker = await FakeBroker.start({ httpPort });
    const again = await clock.advanceUntil(broker.calls.PublishStream.next());
    again.send(accept(await again.requests.next()));
    assert.equal((await sent).id, "a");
  });

  test("by bytes that are no answer is opened again, too", async () => {
    const sent = publish("a");
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    stream.send(Buffer.from([0x0a, 0xff, 0x01]));
    await clock.whenWaiting(75);
    clock.advance(75);
    const again = await broker.calls.PublishStream.next();
    again.send(accept(await again.requests.next()));
    await sent;
  });

  test("by an answer that is none is not believed", async () => {
    const sent = publish("a");
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    stream.send({ requestId: "another", outcome: { case: "accepted", value: { count: 1 } } });
    await clock.whenWaiting(75);
    clock.advance(75);
    const again = await broker.calls.PublishStream.next();
    again.send(accept(await again.requests.next()));
    await sent;
  });
});

suite("a call gives up", () => {
  test("after 60 s, or its own time, and whether its event was stored is not known", async () => {
    const sent = [publish("a"), publish("b", { timeout: 5000 })];
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    clock.advance(5000);
    const error = await rejected(sent[1]);
    assert.deepEqual([error.reason, error.code, error.retryable], ["TIMED_OUT", "DEADLINE_EXCEEDED", true]);
    clock.advance(55_000);
    assert.equal((await rejected(sent[0])).reason, "TIMED_OUT");
  });

  test("where the gateway cannot be reached, and says so", async () => {
    await broker.kill();
    const sent = publish("a", { timeout: 1000 });
    await clock.whenWaiting(75);
    clock.advance(1000);
    const error = await rejected(sent);
    assert.deepEqual([error.reason, error.cause.reason], ["TIMED_OUT", "GATEWAY_UNREACHABLE"]);
  });

  test("when its signal is aborted, and is not sent again", async () => {
    const stop = new AbortController();
    const sent = [publish("a", { signal: stop.signal }), publish("b")];
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    stop.abort();
    assert.equal((await rejected(sent[0])).code, "CANCELLED");
    stream.refuse(14, "DRAINING");
    await clock.whenWaiting(75);
    clock.advance(75);
    const again = await broker.calls.PublishStream.next();
    const request = await again.requests.next();
    assert.deepEqual(idsOf(request), ["b"]);
    again.send(accept(request));
    await sent[1];
    assert.equal((await rejected(publish("c", { signal: AbortSignal.abort() }))).code, "CANCELLED");
  });
});

suite("close", () => {
  test("waits for what is under way", async () => {
    const sent = publish("a");
    const stream = await broker.calls.PublishStream.next();
    const request = await stream.requests.next();
    let isClosed = false;
    const closed = client.close().then(() => (isClosed = true));
    assert.equal((await rejected(publish("b"))).reason, "CLIENT_CLOSED");
    assert.equal(isClosed, false);
    stream.send(accept(request));
    await sent;
    await closed;
  });

  test("waits for 30 s at most", async () => {
    const verdict = rejected(publish("a", { timeout: 120_000 }));
    const stream = await broker.calls.PublishStream.next();
    await stream.requests.next();
    const closed = client.close();
    await clock.whenWaiting(30_000);
    clock.advance(30_000);
    await closed;
    assert.equal((await verdict).reason, "TIMED_OUT");
  });
});

test("the broker's domain is asked for where a schema says none, and calls keep their order", async () => {
  const options = create(MessageOptionsSchema);
  setExtension(options, eventOption, {});
  const file = create(FileDescriptorProtoSchema, {
    ...{ name: "mine.proto", package: "mine.v2", syntax: "proto3", dependency: ["certes/v1/options.proto"] },
    messageType: [{ name: "MyEvent", options }],
  });
  const set = create(FileDescriptorSetSchema, {
    file: [...optionsFile.dependencies.map(({ proto }) => proto), optionsFile.proto, file],
  });
  const schema = createFileRegistry(set).getMessage("mine.v2.MyEvent");
  const sent = [client.publish(schema, {}, { ...EVERYONE, id: "1" }), publish("2")];
  const stream = await broker.calls.PublishStream.next();
  const events = [];
  while (events.length < 2) {
    const request = await stream.requests.next();
    events.push(...request.events);
    stream.send(accept(request));
  }
  assert.deepEqual(
    events.map(({ id, type }) => [id, type]),
    [
      ["1", "broker.example/_/2/my_event"],
      ["2", PUSH],
    ],
  );
  await Promise.all(sent);
});
