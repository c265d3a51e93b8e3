// Handles pushes by webhook, with Express: node webhook.js [events://localhost] [port]
import certes from "@certes/sdk";
import express from "express";

const port = Number(process.argv[3] ?? 8080);
certes.init(process.argv[2] ?? "events://localhost", {
  app: "example-webhook",
  callbackUrl: `http://127.0.0.1:${port}/events`,
});

certes.on("community.certes.dev/github/1/push", async (push, meta) => {
  console.log(`${push.repository?.fullName}: ${push.ref} (${meta.id})`);
});

const app = express();
app.post("/events", certes.expressHandler()); // Before any body parser: what is verified are the bytes as they came.
app.use(express.json());

const server = app.listen(port, "127.0.0.1", async () => {
  await certes.ensureSubscriptions([certes.event("community.certes.dev/github/1/push")]);
  console.log("subscribed");
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    server.close(async () => {
      await certes.close();
      console.log("done");
    });
    server.closeIdleConnections();
  });
}
