// Handles pushes by stream, until Ctrl-C: node consumer.js [events://localhost]
import certes from "@certes/sdk";

certes.init(process.argv[2] ?? "events://localhost", { app: "example-consumer" });

certes.on("community.certes.dev/github/1/push", (push, meta) => {
  console.log(`${push.repository?.fullName}: ${push.ref} (attempt ${meta.attempt} of ${meta.id})`);
});

// What no other pattern matches comes here.
certes.on("community.certes.dev/github/1/*", (message, meta) => {
  console.log(`${meta.type} about ${meta.subject || "nothing in particular"}: a ${message.$typeName}`);
});

await certes.ensureSubscriptions([certes.event("community.certes.dev/github/1/*")]);
console.log("subscribed");

const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());
await certes.run({ signal: stop.signal }); // Ends when the signal came and what had begun is done and acknowledged.
console.log("done");
