/** Subscriptions that were deleted and are ensured again by the same client. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, suite, test } from "node:test";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { Arrivals, batch, delivery, FakeBroker, filesOf, opened } from "./fake_broker.js";
import { ManualClock } from "./manual_clock.js";
import { rejected } from "./vectors.js";

const PUSH = "community.certes.dev/github/1/push";

let broker;
let client;
let come;
let warnings;

beforeEach(async () => {
  broker = await FakeBroker.start();
  broker.schemas["community.certes.dev/github/1"] = filesOf(PushEventSchema);
  come = new Arrivals();
  warnings = new Arrivals();
  client = new Client(broker.uri, { app: "app", logger: { warn: (...said) => warnings.push(said) } }, new ManualClock());
  client.on(PUSH, (raw) => come.push(raw.ref));
});

afterEach(async () => {
  await client.close();
  await broker.stop();
});

async function comesAgain(stream) {
  stream.send(opened);
  stream.send(batch(1, [delivery(PUSH, PushEventSchema, { ref: "again" })]));
  assert.equal(await come.next(), "again");
}

suite("a subscription that was deleted and is ensured again", () => {
  test("has its events, where its stream started by itself", async () => {
    await client.ensureSubscriptions([client.event(PUSH)]);
    (await broker.calls.Subscribe.next()).refuse(9, "SUBSCRIPTION_DELETED");
    assert.equal((await warnings.next())[1].reason, "SUBSCRIPTION_DELETED");
    await client.ensureSubscriptions([client.event(PUSH)]);
    await comesAgain(await broker.calls.Subscribe.next());
  });

  test("has its events, where run is called again", async () => {
    const running = rejected(client.run());
    (await broker.calls.Subscribe.next()).refuse(9, "SUBSCRIPTION_DELETED");
    assert.equal((await running).reason, "SUBSCRIPTION_DELETED");
    const again = client.run();
    await comesAgain(await broker.calls.Subscribe.next());
    await client.close();
    await again;
  });

  test("has one stream, however often it is ensured", async () => {
    await client.ensureSubscriptions([client.event(PUSH)]);
    const stream = await broker.calls.Subscribe.next();
    await client.ensureSubscriptions([client.event(PUSH)]);
    await comesAgain(stream);
    assert.equal(broker.calls.Subscribe.waiting, 0);
  });
});
