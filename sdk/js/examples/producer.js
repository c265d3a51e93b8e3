// Publishes pushes: node producer.js [events://localhost] [how many]
import { PushEventSchema } from "@certes/contrib/github";
import certes, { CertesError } from "@certes/sdk";

certes.init(process.argv[2] ?? "events://localhost", { app: "example-producer" });

const count = Number(process.argv[3] ?? 3);
const calls = Array.from({ length: count }, (_, number) =>
  certes.publish(
    PushEventSchema,
    { ref: `refs/heads/main-${number}`, repository: { fullName: "meetly/app" } },
    { everyone: true, orderingKey: "meetly/app", subject: "meetly/app" },
  ),
);
// The calls share requests. Each returns when its event survives a crash of the broker.
for (const { id } of await Promise.all(calls)) console.log(`stored ${id}`);

try {
  await certes.sendOutgoingEvent("", PushEventSchema, {});
} catch (error) {
  if (!(error instanceof CertesError)) throw error;
  console.log(`refused: ${error.reason}`);
}
await certes.close();
