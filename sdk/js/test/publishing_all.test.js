/** `publishAll`, with a broker that does what the test says. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { create, createFileRegistry, setExtension } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema, MessageOptionsSchema } from "@bufbuild/protobuf/wkt";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { event as eventOption, file_certes_v1_options as optionsFile } from "../gen/certes/v1/options_pb.js";
import { FakeBroker } from "./fake_broker.js";
import { ManualClock } from "./manual_clock.js";
import { rejected } from "./vectors.js";

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

const push = (id, more = {}) => ({ schema: PushEventSchema, message: { ref: id ?? "r" }, everyone: true, id, ...more });
const idsOf = ({ request }) => request.events.map(({ id }) => id);
const resultsOf = ({ request }, duplicate = false) => ({
  results: request.events.map(({ id }, index) => ({ id, name: `events/${index}`, duplicate })),
});

suite("publishAll", () => {
  test("is one Publish, and says of each event what became of it", async () => {
    const sent = client.publishAll([push("a"), push(undefined), push("c", { orderingKey: "k" })]);
    const call = await broker.calls.Publish.next();
    const [a, made, c] = idsOf(call);
    assert.deepEqual([a, c, call.request.events[2].orderingKey], ["a", "c", "k"]);
    assert.match(made, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    const results = [
      { id: "a", name: "events/1", duplicate: true },
      { id: made, name: "events/2", duplicate: false },
      { id: "c", name: "events/3", duplicate: false },
    ];
    call.answer({ results });
    assert.deepEqual(await sent, results);
    assert.equal(broker.calls.PublishStream.waiting, 0);
  });

  test("of nothing asks nobody", async () => {
    assert.deepEqual(await client.publishAll([]), []);
    assert.equal(broker.asked, 0);
  });

  test("that is refused rejects, and is not told again", async () => {
    const refused = rejected(client.publishAll([push("a"), push("bad")]));
    (await broker.calls.Publish.next()).refuse(3, "UNKNOWN_EVENT_TYPE", { metadata: { field: "events[1].type" } });
    const error = await refused;
    assert.deepEqual([error.reason, error.metadata.field], ["UNKNOWN_EVENT_TYPE", "events[1].type"]);
    assert.equal(broker.calls.Publish.waiting, 0);
  });

  test("that is refused for now is tried again after what the refusal names, else with back-off, with the same ids", async () => {
    const sent = client.publishAll([push("a"), push(undefined)]);
    const first = await broker.calls.Publish.next();
    first.refuse(8, "BUFFER_FULL", { retryAfter: 7 });
    await clock.whenWaiting(7000);
    clock.advance(7000);
    const second = await broker.calls.Publish.next();
    second.refuse(14, "DRAINING");
    await clock.whenWaiting(150);
    clock.advance(150);
    const third = await broker.calls.Publish.next();
    assert.deepEqual([idsOf(second), idsOf(third)], [idsOf(first), idsOf(first)]);
    third.answer(resultsOf(third, true));
    assert.deepEqual(
      (await sent).map(({ duplicate }) => duplicate),
      [true, true],
    );
  });

  test("whose answer is none is tried again", async () => {
    const sent = client.publishAll([push("a")]);
    (await broker.calls.Publish.next()).answer({ results: [] });
    const again = await clock.advanceUntil(broker.calls.Publish.next());
    again.answer(resultsOf(again));
    assert.equal((await sent)[0].id, "a");
  });

  test("gives up after 60 s, or its own time, and whether its events were stored is not known", async () => {
    const refused = [client.publishAll([push("a")]), client.publishAll([push("b")], { timeout: 5000 })].map(rejected);
    for (let count = 0; count < 2; count += 1) await broker.calls.Publish.next();
    clock.advance(5000);
    const error = await refused[1];
    assert.deepEqual([error.reason, error.code, error.retryable], ["TIMED_OUT", "DEADLINE_EXCEEDED", true]);
    clock.advance(54_999);
    assert.equal(await Promise.race([refused[0], new Promise((resolve) => setImmediate(resolve, "waits"))]), "waits");
    clock.advance(1);
    assert.equal((await refused[0]).reason, "TIMED_OUT");
  });

  test("says what stood in its way", async () => {
    await broker.kill();
    const refused = rejected(client.publishAll([push("a")], { timeout: 1000 }));
    await clock.whenWaiting(75);
    clock.advance(1000);
    assert.equal((await refused).cause.reason, "GATEWAY_UNREACHABLE");
  });

  test("gives up when its signal is aborted", async () => {
    const stop = new AbortController();
    const refused = rejected(client.publishAll([push("a")], { signal: stop.signal }));
    await broker.calls.Publish.next();
    stop.abort();
    assert.equal((await refused).code, "CANCELLED");
    assert.equal((await rejected(client.publishAll([push("b")], { signal: stop.signal }))).code, "CANCELLED");
  });

  test("asks for the broker's domain where a schema says none", async () => {
    const options = create(MessageOptionsSchema);
    setExtension(options, eventOption, {});
    const file = create(FileDescriptorProtoSchema, {
      ...{ name: "all.proto", package: "all.v3", syntax: "proto3", dependency: ["certes/v1/options.proto"] },
      messageType: [{ name: "MyEvent", options }],
    });
    const set = create(FileDescriptorSetSchema, {
      file: [...optionsFile.dependencies.map(({ proto }) => proto), optionsFile.proto, file],
    });
    const schema = createFileRegistry(set).getMessage("all.v3.MyEvent");
    const sent = client.publishAll([push("a"), push("b", { schema, message: {} })]);
    const call = await broker.calls.Publish.next();
    assert.equal(call.request.events[1].type, "broker.example/_/3/my_event");
    call.answer(resultsOf(call));
    await sent;
  });

  test("is waited for by close, for 30 s at most", async () => {
    const sent = client.publishAll([push("a")]);
    const lost = rejected(client.publishAll([push("b")], { timeout: 120_000 }));
    const [first] = [await broker.calls.Publish.next(), await broker.calls.Publish.next()];
    let isClosed = false;
    const closed = client.close().then(() => (isClosed = true));
    first.answer(resultsOf(first));
    await sent;
    assert.equal(isClosed, false);
    await clock.whenWaiting(30_000);
    clock.advance(30_000);
    await closed;
    assert.equal((await lost).reason, "TIMED_OUT");
  });

  test("can be under way many times, also with one signal, and nobody takes that for a leak", async (t) => {
    const said = [];
    const note = (warning) => said.push(warning.name);
    process.on("warning", note);
    t.after(() => process.off("warning", note));
    const { signal } = new AbortController();
    const sent = Array.from({ length: 20 }, (_, index) => client.publishAll([push(String(index))], { signal }));
    for (let count = 0; count < 20; count += 1) {
      const call = await broker.calls.Publish.next();
      call.answer(resultsOf(call));
    }
    await Promise.all(sent);
    await new Promise(setImmediate);
    assert.deepEqual(said, []);
  });

  const large = "x".repeat(1 << 20);
  for (const [why, reason, call] of [
    ["of more than 1,000 events", "TOO_MANY_EVENTS", () => client.publishAll(Array.from({ length: 1001 }, () => push("a")))],
    ["of more than 4 MiB", "REQUEST_TOO_LARGE", () => client.publishAll(Array.from({ length: 4 }, () => push(large)))],
    ["with an event too large for any", "EVENT_TOO_LARGE", () => client.publishAll([push(undefined, { subject: large.repeat(4) })])],
    ["with an event for nobody", "AUDIENCE_MISSING", () => client.publishAll([push("a"), { ...push("b"), everyone: false }])],
    ["of what is no list", "FIELD_INVALID", () => client.publishAll(push("a"))],
    ["within no time", "FIELD_INVALID", () => client.publishAll([push("a")], { timeout: -1 })],
    ["before init", "NOT_INITIALIZED", () => new Client().publishAll([push("a")])],
  ]) {
    test(`${why} is refused: ${reason}`, async () => {
      assert.equal((await rejected(call())).reason, reason);
      assert.equal(broker.calls.Publish.waiting, 0);
    });
  }

  test("of a closed client is refused", async () => {
    await client.close();
    assert.equal((await rejected(client.publishAll([push("a")]))).reason, "CLIENT_CLOSED");
  });
});
