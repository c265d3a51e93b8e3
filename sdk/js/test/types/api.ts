// What the types allow, and what they do not.
import { createServer } from "node:http";
import { create } from "@bufbuild/protobuf";
import { github as gh } from "@certes/contrib";
import certes, { CertesError, Client, type EventMeta, type Handler, type Options, type Receipt } from "@certes/sdk";
import { EventSchema } from "@certes/sdk/gen/certes/v1/event_pb.js";

const options: Options = { app: "billing", generation: 7, webhookKeys: ["whsec_x"], logger: console };
const client = new Client("events://localhost", options);

const handler: Handler = async (raw, meta: EventMeta) => {
  const push = raw as gh.PushEvent;
  const [ref, time, attempt]: [string, Date | undefined, number | undefined] = [push.ref, meta.time, meta.attempt];
  console.log(ref, time, attempt, raw.$typeName);
};
client.on("community.certes.dev/github/1/push", handler);

const opts: gh.Opts = { repo: "meetly/app" };
await client.ensureSubscriptions(client.event("community.certes.dev/github/1/*", opts), { name: "bulk", filter: "true" });
// @ts-expect-error A text is no selector.
await client.ensureSubscriptions(["community.certes.dev/github/1/*"]);

const receipt: Receipt = await client.publish(gh.PushEventSchema, { ref: "r" }, { everyone: true });
await client.publish(create(gh.PushEventSchema, { ref: "r" }), { subscriber: "org_123", time: new Date() });
await client.sendOutgoingEvent("org_123", gh.PushEventSchema, { ref: "r" });
await client.sendOutgoingEvent("org_123", create(gh.PushEventSchema));
await client.publishAll([{ schema: gh.PushEventSchema, message: { ref: "r" }, everyone: true }]);
// @ts-expect-error A number is no text.
await client.publish(gh.PushEventSchema, { ref: 7 }, { everyone: true });
// @ts-expect-error Whom it is for must be thought of.
await client.publish(gh.PushEventSchema, { ref: "r" });
client.register(gh, EventSchema);

createServer(client.nodeHandler());
const answer: Promise<Response> = client.fetchHandler()(new Request("http://localhost/"));
try {
  await certes.run({ signal: AbortSignal.timeout(1) });
} catch (error) {
  if (error instanceof CertesError && error.retryable)
    console.log(error.reason, error.hint, error.violations[0]?.field, error.retryAfter);
}
console.log(receipt.id, receipt.duplicate, answer);
