/** Webhooks: the answers that all SDKs give, the keys, and the usual HTTP servers. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { afterEach, beforeEach, suite, test } from "node:test";
import { create, createFileRegistry, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { PushEventSchema } from "@certes/contrib/github";
import express from "express";
import express4 from "express4";
import { Client } from "../dist/client.js";
import { Dispatcher } from "../dist/dispatcher.js";
import { CertesError } from "../dist/errors.js";
import { Handlers } from "../dist/handlers.js";
import { Schemas } from "../dist/schemas.js";
import { answerWebhook, MOST_BODY_BYTES } from "../dist/webhook.js";
import { WebhookKeys } from "../dist/webhook_keys.js";
import { FakeBroker, filesOf } from "./fake_broker.js";
import { ManualClock } from "./manual_clock.js";
import { vectors } from "./vectors.js";

const PUSH = "community.certes.dev/github/1/push";
const silent = { warn() {} };
const KEY = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

suite("answers", () => {
  const { requests, keys, now } = vectors("webhooks");
  const clock = new ManualClock(now * 1000);

  function partsOf(handler, come) {
    const handlers = new Handlers();
    for (const pattern of handler === "none" ? [] : ["community.certes.dev/**", "d.example/**"]) {
      handlers.add(pattern, (raw, meta) => {
        come.push([raw, meta]);
        if (handler === "raises") throw new Error("boom");
      });
    }
    const fetch = async (type) => {
      if (!type.startsWith("community.certes.dev/github/1/")) throw new CertesError("NOT_FOUND", "UNKNOWN_EVENT_TYPE", "no");
      return createFileRegistry(create(FileDescriptorSetSchema, { file: filesOf(PushEventSchema) }));
    };
    return {
      ...{
        keys: new WebhookKeys(keys, async () => ({ secrets: [], trouble: undefined }), clock, silent),
        schemas: new Schemas(fetch, clock),
      },
      ...{ handlers, dispatcher: new Dispatcher(handlers, 64), logger: silent, isClosed: () => false },
    };
  }

  for (const { why, method, headers, body, body_base64: encoded, handler, status, reason, event, answer_headers: said } of requests) {
    test(`${status}: ${why}`, async () => {
      const come = [];
      const bytes = encoded === undefined ? Buffer.from(body) : Buffer.from(encoded, "base64");
      const answer = await answerWebhook({ method, headers, body: async () => bytes }, partsOf(handler, come));
      assert.equal(answer.status, status);
      for (const [name, value] of Object.entries(said ?? {})) assert.equal(answer.headers[name], value);
      if (status === 204) assert.equal(answer.body, "");
      else if (status !== 405) assert.equal(JSON.parse(answer.body).reason, reason);
      assert.equal(come.length, event === null ? 0 : 1);
      if (event !== null) checkEvent(event, ...come[0]);
    });
  }

  function checkEvent(event, raw, meta) {
    assert.deepEqual(
      [meta.id, meta.type, meta.source, meta.subject, meta.subscriber, meta.everyone, meta.orderingKey, meta.attributes],
      [event.id, event.type, event.source, event.subject, event.subscriber, event.everyone, event.ordering_key, event.attributes],
    );
    assert.deepEqual([meta.traceparent, meta.tracestate], [event.traceparent, event.tracestate]);
    // To the millisecond, which is as much as a Date has.
    assert.equal(meta.time?.getTime(), event.time === null ? undefined : new Date(event.time).getTime());
    if (event.data === null) {
      assert.deepEqual([raw.contentType, Buffer.from(raw.bytes).toString("base64")], [event.content_type, event.bytes_base64]);
      return;
    }
    const { brand_new: unknown, ...known } = event.data;
    assert.deepEqual(toJson(PushEventSchema, raw, { useProtoFieldName: true }), known);
  }

  const forged = { "ce-specversion": "1.0", "ce-id": "2", "ce-source": "s", "ce-type": PUSH, "ce-everyone": "true" };
  const answerForged = (body, contentType, come) => {
    const headers = { ...signed(body, keys[0], now * 1000), ...forged, "content-type": contentType };
    return answerWebhook({ method: "POST", headers: Object.entries(headers), body: async () => Buffer.from(body) }, partsOf("returns", come));
  };

  for (const contentType of ["application/json", "application/json; charset=utf-8", "text/plain", ""]) {
    test(`400: a structured event that was signed comes again with forged ce- headers, as ${contentType || "nothing"}`, async () => {
      for (const body of [structured(), ` \n${structured()}`, structured().replace("specversion", "\\u0073pecversion"), `\ufeff${structured()}`]) {
        const come = [];
        const answer = await answerForged(body, contentType, come);
        assert.deepEqual([answer.status, JSON.parse(answer.body).reason, come.length], [400, "PAYLOAD_MALFORMED", 0]);
      }
    });
  }

  test("204: a binary event whose data only mentions a specversion", async () => {
    for (const body of ['{"ref":"specversion"}', '{"repository":{"specversion":"1.0"}}', '{"specversion":1}']) {
      assert.equal((await answerForged(body, "application/json", [])).status, 204);
    }
    for (const body of ['"specversion"', "[]", "null", "specversion", '{"specversion":']) {
      assert.equal((await answerForged(body, "text/plain", [])).status, 204);
    }
  });

  test("503: the client is closed", async () => {
    const answer = await answerWebhook(
      { method: "POST", headers: [], body: async () => Buffer.of() },
      { ...partsOf("none", []), isClosed: () => true },
    );
    assert.deepEqual([answer.status, JSON.parse(answer.body).reason], [503, "CLIENT_CLOSED"]);
  });
});

/** The headers of a webhook that was signed with a key. */
function signed(body, key = KEY, now = Date.now()) {
  const timestamp = String(Math.floor(now / 1000));
  const content = Buffer.concat([Buffer.from(`msg_1.${timestamp}.`), Buffer.from(body)]);
  const signature = createHmac("sha256", Buffer.from(key.slice("whsec_".length), "base64"))
    .update(content)
    .digest("base64");
  return {
    "content-type": "application/cloudevents+json",
    "webhook-id": "msg_1",
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${signature}`,
  };
}

const structured = (data = { ref: "r" }) =>
  JSON.stringify({ specversion: "1.0", id: "1", source: "s", type: PUSH, everyone: true, data });

suite("keys", () => {
  const BODY = Buffer.from("{}");
  let clock;
  let asked;
  let answer;
  let keys;
  let warned;

  beforeEach(() => {
    clock = new ManualClock();
    warned = [];
    asked = 0;
    answer = async () => ({ secrets: [KEY], trouble: undefined });
    keys = new WebhookKeys([], () => ((asked += 1), answer()), clock, { warn: (message) => warned.push(message) });
  });

  const verify = (key = KEY) =>
    keys.verify(Object.entries(signed(BODY, key, clock.time)), BODY).then(
      () => "ok",
      (error) => error.reason,
    );
  const OTHER = `whsec_${Buffer.alloc(32, 8).toString("base64")}`;

  test("are fetched when they are first needed, once for all who wait, and kept for 5 minutes", async () => {
    assert.deepEqual(await Promise.all([verify(), verify()]), ["ok", "ok"]);
    clock.advance(299_000);
    assert.deepEqual([await verify(), asked], ["ok", 1]);
    clock.advance(1_000);
    assert.deepEqual([await verify(), asked], ["ok", 2]);
  });

  test("are fetched once more where none fits, but not within 10 s", async () => {
    assert.equal(await verify(), "ok");
    answer = async () => ({ secrets: [KEY, OTHER], trouble: undefined });
    assert.deepEqual([await verify(OTHER), asked], ["SIGNATURE_INVALID", 1]);
    clock.advance(10_000);
    assert.deepEqual([await verify(OTHER), asked], ["ok", 2]);
  });

  test("that could not be fetched are no reason to call a signature wrong, and why is for the log alone", async () => {
    answer = async () => Promise.reject(new CertesError("UNAVAILABLE", "GATEWAY_UNREACHABLE", "no way to 10.1.2.3"));
    await assert.rejects(keys.verify(Object.entries(signed(BODY, KEY, clock.time)), BODY), (error) => {
      assert.equal(error.reason, "SECRETS_UNAVAILABLE");
      return !String(error).includes("10.1.2.3");
    });
    assert.deepEqual(warned, ["The signing secrets could not be fetched: GATEWAY_UNREACHABLE: no way to 10.1.2.3"]);
    assert.deepEqual([await verify(), asked], ["SECRETS_UNAVAILABLE", 1]);
  });

  test("are asked for once in 10 s, however many strangers come", async () => {
    const verdicts = new Set();
    for (let count = 0; count < 1000; count += 1) {
      verdicts.add(await verify(OTHER));
      clock.advance(10);
    }
    assert.deepEqual([[...verdicts], asked], [["SIGNATURE_INVALID"], 1]);
  });

  test("of the settings need nobody", async () => {
    keys = new WebhookKeys([KEY], () => Promise.reject(new Error("asked")), clock, silent);
    assert.equal(await verify(), "ok");
  });
});

suite("HTTP servers", () => {
  let broker;
  let client;
  let come;
  let server;

  beforeEach(async () => {
    broker = await FakeBroker.start();
    broker.schemas["community.certes.dev/github/1"] = filesOf(PushEventSchema);
    broker.secrets = [KEY];
    client = new Client(broker.uri, { app: "app", callbackUrl: "http://127.0.0.1:1/", logger: { warn() {} } });
    come = [];
    client.on(PUSH, (raw) => void come.push(raw.ref));
  });

  afterEach(async () => {
    server?.closeAllConnections();
    server?.close();
    await client.close();
    await broker.stop();
  });

  async function listen(handler) {
    server = createServer(handler).listen(0, "127.0.0.1");
    await once(server, "listening");
    return `http://127.0.0.1:${server.address().port}/`;
  }

  async function post(url, body = structured(), headers = signed(body)) {
    const response = await fetch(url, { method: "POST", body, headers });
    return [response.status, await response.text()];
  }

  test("node:http", async () => {
    const url = await listen(client.nodeHandler());
    assert.deepEqual(await post(url), [204, ""]);
    assert.deepEqual(come, ["r"]);
    const { request } = await broker.calls.GetSigningSecrets.next();
    assert.equal(request.name, "subscribers/default/subscriptions/app");
    assert.equal((await post(url, structured(), signed("another body")))[0], 401);
    assert.equal((await fetch(url)).status, 405);
  });

  for (const [version, make] of [
    ["5", express],
    ["4", express4],
  ]) {
    test(`Express ${version}`, async () => {
      const app = make();
      app.post("/", client.expressHandler());
      const url = await listen(app);
      assert.deepEqual(await post(url), [204, ""]);
    });

    test(`Express ${version} with the bytes that express.raw() read`, async () => {
      const app = make();
      app.use(make.raw({ type: "*/*" }));
      app.post("/", client.expressHandler());
      assert.deepEqual(await post(await listen(app)), [204, ""]);
    });

    test(`Express ${version} with a parser before, which is not taken for the body`, async () => {
      const app = make();
      app.use(make.json({ type: "*/*" }));
      app.post("/", client.expressHandler());
      const [status, body] = await post(await listen(app));
      assert.equal(status, 500);
      assert.match(JSON.parse(body).message, /before the body parser/);
    });

    test(`Express ${version} with a parser before that does not touch it`, async () => {
      const app = make();
      app.use(make.json());
      app.post("/", client.expressHandler());
      assert.deepEqual(await post(await listen(app)), [204, ""]);
    });
  }

  test("fetch", async () => {
    const handle = client.fetchHandler();
    const request = (body, init) => new Request("http://a.example/", { method: "POST", body, headers: signed(body), ...init });
    assert.equal((await handle(request(structured()))).status, 204);
    const read = request(structured());
    await read.text();
    assert.equal((await handle(read)).status, 500);
    const refused = await handle(new Request("http://a.example/"));
    assert.deepEqual([refused.status, refused.headers.get("allow")], [405, "POST"]);
  });

  test("a body that is larger than allowed is not read to its end", async () => {
    const url = await listen(client.nodeHandler());
    const body = Buffer.alloc(MOST_BODY_BYTES + 1, 0x20);
    const outcome = await post(url, body).catch((error) => error);
    // The answer comes while the body is still sent, so a client may see the connection close first.
    if (Array.isArray(outcome)) assert.deepEqual([outcome[0], JSON.parse(outcome[1]).reason], [400, "PAYLOAD_TOO_LARGE"]);
    assert.deepEqual(await post(url), [204, ""], "and others are served");
  });

  test("a client that was not initialised answers 503", async () => {
    const url = await listen(new Client().nodeHandler());
    assert.equal((await post(url))[0], 503);
  });

  test("a request that waits for a place when the client is closed is answered 503", async () => {
    await client.close();
    client.init(broker.uri, { app: "app", callbackUrl: "http://127.0.0.1:1/", concurrency: 1, logger: { warn() {} } });
    let finish;
    const running = new Promise((resolve) => client.on(PUSH, () => new Promise((settle) => resolve((finish = settle)))));
    const url = await listen(client.nodeHandler());
    const first = post(url);
    await running;
    const arrived = once(server, "request");
    const second = post(url, structured({ ref: "other" }));
    await arrived;
    const closed = client.close();
    assert.equal((await second)[0], 503);
    finish();
    assert.equal((await first)[0], 204);
    await closed;
  });

  test("a client that hangs up in the middle does no harm", async () => {
    const url = await listen(client.nodeHandler());
    const socket = connect(server.address().port, "127.0.0.1");
    await once(socket, "connect");
    const arrived = once(server, "request");
    socket.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nhalf");
    const [request] = await arrived;
    const ended = new Promise((resolve) => request.on("close", resolve));
    socket.destroy();
    await ended;
    assert.deepEqual(await post(url), [204, ""]);
  });
});
