/** What only a real broker can prove. `tests/integration/test_js_sdk.py` starts one, and says in `GATEWAY` where it is. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { discover } from "../dist/discovery.js";
import { Rpc } from "../dist/rpc.js";
import { parseGateway } from "../dist/uris.js";
import {
  PauseSubscriptionRequestSchema,
  ResumeSubscriptionRequestSchema,
} from "../gen/certes/v1/subscription_service_pb.js";
import { Arrivals } from "./fake_broker.js";
import { ManualClock } from "./manual_clock.js";
import { rejected } from "./vectors.js";

const GATEWAY = process.env["GATEWAY"];
const PUSH = "community.certes.dev/github/1/push";
const EVERYONE = { everyone: true };

test("ten replicas ensure one subscription at once, and share its events", async () => {
  const come = new Arrivals();
  const replicas = Array.from({ length: 10 }, () => new Client(GATEWAY, { app: "replicated", generation: 7 }));
  for (const replica of replicas) replica.on(PUSH, (raw) => come.push(raw.ref));
  await Promise.all(replicas.map((replica) => replica.ensureSubscriptions(replica.event(PUSH))));
  const refs = Array.from({ length: 200 }, (_, index) => `replicated-${index}`);
  await Promise.all(refs.map((ref) => replicas[0].publish(PushEventSchema, { ref }, EVERYONE)));
  const handled = [];
  while (handled.length < refs.length) handled.push(await come.next());
  assert.deepEqual(handled.sort(), refs.sort());
  const older = new Client(GATEWAY, { app: "replicated", generation: 6 });
  // By a clock that stands still: it does not wait.
  const refused = await rejected(older.ensureSubscriptions(older.event(PUSH)));
  assert.deepEqual([refused.reason, refused.code], ["STALE_GENERATION", "FAILED_PRECONDITION"]);
  await Promise.all([older, ...replicas].map((client) => client.close()));
});

test("publishAll stores all of its events, or none", async () => {
  const client = new Client(GATEWAY, { app: "joint" });
  const push = (id, more) => ({ schema: PushEventSchema, message: { ref: id }, ...EVERYONE, id, ...more });
  const refused = await rejected(client.publishAll([push("joint-1"), push("joint-2", { attributes: { "NO KEY": "" } })]));
  assert.deepEqual([refused.code, refused.retryable], ["INVALID_ARGUMENT", false]);
  const receipts = await client.publishAll([push("joint-1"), push("joint-2")]);
  assert.deepEqual(
    receipts.map(({ id, duplicate }) => [id, duplicate]),
    [
      ["joint-1", false],
      ["joint-2", false],
    ],
  );
  const again = await client.publishAll([push("joint-2"), push("joint-3")]);
  assert.deepEqual([again[0].duplicate, again[0].name, again[1].duplicate], [true, receipts[1].name, false]);
  const many = await rejected(client.publishAll(Array.from({ length: 1001 }, (_, index) => push(String(index)))));
  assert.equal(many.message, "events: has 1001 events; 1000 are allowed in one request");
  await client.close();
});

test("a stream of a paused subscription is said to be refused, tried again every 30 s, and gets what was held", async (t) => {
  const rpc = new Rpc(await discover(parseGateway(GATEWAY)), undefined, undefined);
  t.after(() => rpc.close());
  const name = "subscribers/default/subscriptions/paused";
  const tell = (method, schema) =>
    rpc.unary(`/certes.v1.SubscriptionService/${method}`, toBinary(schema, create(schema, { name })), 10_000);
  const clock = new ManualClock();
  const warnings = new Arrivals();
  const come = new Arrivals();
  const client = new Client(GATEWAY, { app: "paused", logger: { warn: (...said) => warnings.push(said) } }, clock);
  await client.ensureSubscriptions(client.event(PUSH));
  await tell("PauseSubscription", PauseSubscriptionRequestSchema);
  client.on(PUSH, (raw) => come.push(raw.ref));
  assert.equal((await warnings.next())[1].reason, "SUBSCRIPTION_NOT_STREAMABLE");
  await client.publish(PushEventSchema, { ref: "held" }, EVERYONE);
  await clock.whenWaiting(30_000);
  clock.advance(30_000);
  assert.equal((await warnings.next())[1].reason, "SUBSCRIPTION_NOT_STREAMABLE");
  await tell("ResumeSubscription", ResumeSubscriptionRequestSchema);
  await clock.whenWaiting(30_000);
  clock.advance(30_000);
  assert.equal(await come.next(), "held");
  const closed = client.close();
  await clock.advanceUntil(closed, 10);
});
