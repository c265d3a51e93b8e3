/** What a broker that asks clients for certificates answers. The environment says where it is, and what it asks for. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { Connection } from "../dist/connection.js";
import { readSettings } from "../dist/settings.js";
import { Arrivals } from "./fake_broker.js";
import { rejected } from "./vectors.js";

const { GATEWAY, CERTES_CA_FILE } = process.env;
const PUSH = "community.certes.dev/github/1/push";

test("with its certificate it publishes and takes", async (t) => {
  const client = new Client(GATEWAY, { app: "app" });
  t.after(() => client.close());
  const come = new Arrivals();
  client.on(PUSH, (raw, { id }) => come.push([raw.ref, id]));
  await client.ensureSubscriptions(client.event(PUSH));
  const { id } = await client.sendOutgoingEvent("org_1", PushEventSchema, { ref: "asked" });
  assert.deepEqual(await come.next(), ["asked", id]);
});

test("without one it is told", async () => {
  const without = new Connection(readSettings(GATEWAY, {}, { CERTES_CA_FILE }));
  const error = await rejected(without.rpc());
  assert.equal(error.reason, "GATEWAY_UNREACHABLE");
  assert.match(error.hint, /name one by certificate and certificateKey/u);
});
