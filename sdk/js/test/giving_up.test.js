/** Calls that give up while their events wait to be sent again. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
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

const publish = (id, options = {}) => client.publish(PushEventSchema, { ref: id }, { everyone: true, id, ...options });
const idsOf = ({ events }) => events.map(({ id }) => id);
const accept = ({ requestId, events }) => ({
  requestId,
  outcome: { case: "accepted", value: { count: events.length, duplicates: 0 } },
});
const reject = ({ requestId }, problem) => ({ requestId, outcome: { case: "rejected", value: problem } });
const FULL = { code: 8, reason: "BUFFER_FULL", message: "full", retryDelay: { seconds: 7n } };
const REFUSED = { code: 3, reason: "FIELD_INVALID", message: "no" };

suite("an event that waits to be sent again, and whose call gives up,", () => {
  test("is settled once: its key is not freed while a later event has it", async () => {
    const stop = new AbortController();
    const first = rejected(publish("k1", { orderingKey: "k", signal: stop.signal }));
    const stream = await broker.calls.PublishStream.next();
    stream.send(reject(await stream.requests.next(), FULL));
    await clock.whenWaiting(7000);
    // So that nothing is about to be written for another reason.
    await new Promise(setImmediate);
    stop.abort();
    await first;
    const sent = [publish("k2", { orderingKey: "k" })];
    const second = await stream.requests.next();
    assert.deepEqual(idsOf(second), ["k2"]);
    clock.advance(7000);
    sent.push(publish("k3", { orderingKey: "k" }), publish("x"));
    const other = await stream.requests.next();
    assert.deepEqual(idsOf(other), ["x"]);
    stream.send(accept(second));
    const third = await stream.requests.next();
    assert.deepEqual(idsOf(third), ["k3"]);
    for (const request of [other, third]) stream.send(accept(request));
    await Promise.all(sent);
  });

  test("lets the next of its key go at once", async () => {
    const stop = new AbortController();
    const first = rejected(publish("k1", { orderingKey: "k", signal: stop.signal }));
    const stream = await broker.calls.PublishStream.next();
    const sent = publish("k2", { orderingKey: "k" });
    stream.send(reject(await stream.requests.next(), FULL));
    await clock.whenWaiting(7000);
    // So that nothing is about to be written for another reason.
    await new Promise(setImmediate);
    stop.abort();
    await first;
    // The clock stands still.
    const second = await stream.requests.next();
    assert.deepEqual(idsOf(second), ["k2"]);
    stream.send(accept(second));
    await sent;
  });
});

suite("an event behind another of its key, both told again alone,", () => {
  /** Two events of one key, which were refused together; the first is told again. */
  async function refusedTogether(first, second) {
    const sent = [publish("a", { orderingKey: "k", ...first }), publish("b", { orderingKey: "k", ...second })];
    const stream = await broker.calls.PublishStream.next();
    stream.send(reject(await stream.requests.next(), REFUSED));
    const alone = await stream.requests.next();
    assert.deepEqual(idsOf(alone), ["a"]);
    return { sent, stream, alone };
  }

  test("goes after the other's call gave up and the stream broke", async () => {
    const stop = new AbortController();
    const { sent, stream } = await refusedTogether({ signal: stop.signal });
    stop.abort();
    await rejected(sent[0]);
    stream.refuse(14, "DRAINING");
    await clock.whenWaiting(75);
    clock.advance(75);
    const again = await broker.calls.PublishStream.next();
    const request = await again.requests.next();
    assert.deepEqual(idsOf(request), ["b"]);
    again.send(accept(request));
    assert.equal((await sent[1]).id, "b");
  });

  test("goes after the other gave up while it rested", async () => {
    const stop = new AbortController();
    const { sent, stream, alone } = await refusedTogether({ signal: stop.signal });
    stream.send(reject(alone, FULL));
    await clock.whenWaiting(7000);
    // So that nothing is about to be written for another reason.
    await new Promise(setImmediate);
    stop.abort();
    await rejected(sent[0]);
    const request = await stream.requests.next();
    assert.deepEqual(idsOf(request), ["b"]);
    clock.advance(7000);
    stream.send(accept(request));
    assert.equal((await sent[1]).id, "b");
  });

  test("goes after the other gave up while there was no stream", async () => {
    const stop = new AbortController();
    const { sent, stream } = await refusedTogether({ signal: stop.signal });
    stream.refuse(14, "DRAINING");
    await clock.whenWaiting(75);
    stop.abort();
    await rejected(sent[0]);
    clock.advance(75);
    const again = await broker.calls.PublishStream.next();
    const request = await again.requests.next();
    assert.deepEqual(idsOf(request), ["b"]);
    again.send(accept(request));
    assert.equal((await sent[1]).id, "b");
  });

  test("gives up in its own time", async () => {
    const { sent, stream, alone } = await refusedTogether({}, { timeout: 5000 });
    clock.advance(5000);
    assert.equal((await rejected(sent[1])).reason, "TIMED_OUT");
    stream.send(accept(alone));
    await sent[0];
  });

  test("has its verdict with the end of the client", async () => {
    const { sent } = await refusedTogether({ timeout: 120_000 }, { timeout: 120_000 });
    const verdicts = sent.map(rejected);
    const closed = client.close();
    await clock.whenWaiting(30_000);
    clock.advance(30_000);
    await closed;
    for (const verdict of verdicts) assert.equal((await verdict).reason, "TIMED_OUT");
  });

  test("has the verdict of a stream that is refused", async () => {
    const { sent, stream } = await refusedTogether();
    stream.refuse(16, "TOKEN_INVALID");
    for (const call of sent) assert.equal((await rejected(call)).reason, "TOKEN_INVALID");
  });
});
