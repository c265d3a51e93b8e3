/**
 * The benchmark program of the JavaScript SDK: publishes, handles and acknowledges in one process, and says what that took.
 *
 *     node client.mjs '{"gateway": "events://127.0.0.1:9600", "app": "bench", "window": 256, "events": 100000, "payload_bytes": 1024}'
 *
 * Events are published by one-event calls, `window` of them un-answered at any time. It prints `{"ready": true}` after a warm-up, waits for a line
 * on its standard input, and prints its figures. It finds the SDK in `sdk/js`, which must have been built.
 */

import { once } from "node:events";
import certes from "../../../sdk/js/dist/index.js";
import { PushEventSchema } from "../../../sdk/js-contrib/gen/certes/community/github/v1/push_event_pb.js";

const TYPE = "community.certes.dev/github/1/push";
const WARM_UP = 2000;
/** What an event has beside the message of its commit: envelope, names, hashes. */
const REST = 413;

const { gateway, app, window, events, payload_bytes: payloadBytes } = JSON.parse(process.argv[2]);
const padding = "x".repeat(Math.max(0, payloadBytes - REST));
const before = "0".repeat(40);
const after = "1".repeat(40);

let handled = 0;
let redelivered = 0;
let wanted = 0;
let wake = () => {};

certes.init(gateway, { app });
certes.on(TYPE, (push, meta) => {
  if (!push.ref.startsWith("refs/heads/") || push.headCommit.id !== after) throw new Error("another event");
  if (meta.attempt > 1) redelivered += 1;
  handled += 1;
  if (handled === wanted) wake();
});
await certes.ensureSubscriptions([certes.event(TYPE)]);

await publishAndHandle(WARM_UP);
console.log(JSON.stringify({ ready: true }));
await once(process.stdin, "data");
process.stdin.unref();

const cpu = process.cpuUsage();
const start = performance.now();
await publishAndHandle(events);
await certes.close();
const seconds = (performance.now() - start) / 1000;
const { user, system } = process.cpuUsage(cpu);
console.log(JSON.stringify({ seconds, events, handled: handled - WARM_UP, redelivered, cpu_seconds: (user + system) / 1e6 }));

async function publishAndHandle(count) {
  wanted = handled + count;
  const all = new Promise((resolve) => (wake = resolve));
  let next = 0;
  const publishSome = async () => {
    while (next < count) await certes.publish(PushEventSchema, push(next++), { everyone: true });
  };
  await Promise.all(Array.from({ length: window }, publishSome));
  await all;
}

function push(number) {
  return {
    ref: `refs/heads/main-${number}`,
    before,
    after,
    repository: { fullName: "meetly/meetly" },
    organization: { login: "meetly" },
    sender: { login: "octo" },
    headCommit: { id: after, message: padding },
  };
}
