// Does with the SDK what its first argument, a JSON document, says, and prints a JSON document a line of what happens.
//
// `publish`: pings of several keys, `window` calls under way, in the order of their numbers. `stream` and `webhook`: handles
// what matches `pattern`; the first `fail_first` times that an event comes, its handler fails.

import certes from "@certes/sdk";
import {github as gh} from "@certes/contrib";
import express from "express";

const settings = JSON.parse(process.argv[2]);
const come = new Map();

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

function handle(event, meta) {
  const times = (come.get(meta.id) ?? 0) + 1;
  come.set(meta.id, times);
  const failed = times <= (settings.fail_first ?? 0);
  say({got: meta.id, zen: event.zen, key: meta.orderingKey, attempt: meta.attempt, failed});
  if (failed) {
    throw new Error(`not yet: ${meta.id}`);
  }
}

async function publish() {
  const underWay = new Set();
  for (let number = 1; number <= settings.events; number++) {
    for (const key of settings.keys) {
      while (underWay.size >= settings.window) {
        await Promise.race(underWay);
      }
      const id = `${key}:${number}`;
      const call = certes
        .publish(gh.PingEventSchema, {zen: `zen of ${id}`}, {everyone: true, id, orderingKey: key})
        .then((receipt) => {
          say({accepted: receipt.id, duplicate: receipt.duplicate});
          underWay.delete(call);
        });
      underWay.add(call);
    }
  }
  await Promise.all(underWay);
  await certes.close();
  say({done: true});
}

async function subscribe() {
  await certes.ensureSubscriptions([certes.event(settings.pattern)]);
  say({ready: true});
}

async function stream() {
  certes.on(settings.pattern, handle);
  await subscribe();
  const stop = new AbortController();
  process.once("SIGTERM", () => stop.abort());
  await certes.run({signal: stop.signal});
  await certes.close();
  say({closed: true});
}

async function webhook() {
  certes.on(settings.pattern, handle);
  const app = express();
  app.post("/hook", certes.expressHandler());
  const server = app.listen(settings.port, "127.0.0.1", subscribe);
  process.once("SIGTERM", () => {
    server.close(async () => {
      await certes.close();
      say({closed: true});
    });
    server.closeIdleConnections();
  });
}

certes.init(settings.gateway, {
  app: settings.app,
  subscriber: settings.subscriber,
  callbackUrl: settings.mode === "webhook" ? `http://127.0.0.1:${settings.port}/hook` : undefined,
});
await {publish, stream, webhook}[settings.mode]();
