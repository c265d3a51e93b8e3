/** Finding the gateway: over TLS and on loopback, and what is refused so that no token travels in clear. */

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createSocketServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Client } from "../dist/client.js";
import { discover, isLoopbackAddress } from "../dist/discovery.js";
import { FakeBroker } from "./fake_broker.js";
import { makeCertificate } from "./make_certificate.js";
import { rejected } from "./vectors.js";

const away = (port) => ({ host: "events.example", port });

suite("over TLS", () => {
  let folder;
  let ca;
  let pair;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), "certes-"));
    const { certificate, key } = makeCertificate(folder, "events.example");
    ca = certificate;
    pair = { key: readFileSync(key), cert: readFileSync(certificate) };
  });

  after(() => rmSync(folder, { recursive: true }));

  test("the authority of the CA file is trusted, by discovery and by gRPC", async (t) => {
    const broker = await FakeBroker.start({ tls: true, ...pair });
    t.after(() => broker.stop());
    // The test names the gateway by an address that is not loopback to the client, though it is: 127.0.0.1 within a DNS answer would be.
    const place = await discoverAway(broker, { ca: readFileSync(ca) });
    assert.deepEqual(place, { address: `127.0.0.1:${broker.port}`, tls: true, domain: "broker.example", asksCertificate: false });
    const { Rpc } = await import("../dist/rpc.js");
    const rpc = new Rpc(place, "certes_1_x", { ca: readFileSync(ca) });
    t.after(() => rpc.close());
    await rpc.unary("/certes.v1.SubscriptionService/GetSubscription", Buffer.alloc(0), 5000);
    const { metadata } = await broker.calls.GetSubscription.next();
    assert.deepEqual(metadata.get("authorization"), ["Bearer certes_1_x"]);
    const distrusting = new Rpc(place);
    t.after(() => distrusting.close());
    assert.equal((await rejected(distrusting.unary("/x/y", Buffer.alloc(0), 5000))).code, "UNAVAILABLE");
  });

  test("an authority that is not trusted is a gateway that cannot be reached", async (t) => {
    const broker = await FakeBroker.start({ tls: true, ...pair });
    t.after(() => broker.stop());
    assert.equal((await rejected(discoverAway(broker, undefined))).reason, "GATEWAY_UNREACHABLE");
  });

  test("gRPC without TLS is refused", async (t) => {
    const broker = await FakeBroker.start({ tls: true, ...pair });
    t.after(() => broker.stop());
    broker.discovery = { grpc: { address: "127.0.0.1:1", tls: false } };
    assert.equal((await rejected(discoverAway(broker, { ca: readFileSync(ca) }))).reason, "GATEWAY_INSECURE");
  });

  /** Discovers as from another machine: the name is said to be elsewhere, and the connection comes here all the same. */
  function discoverAway(broker, files) {
    return discover(away(broker.http.address().port), files, { resolve: async () => ["192.0.2.1"], connectTo: "127.0.0.1" });
  }
});

suite("on loopback", () => {
  async function answering(t, answer) {
    const server = createServer(answer).listen(0, "127.0.0.1");
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    await once(server, "listening");
    return server.address().port;
  }

  const local = { resolve: async () => ["127.0.0.1"] };
  const found = (grpc) => (_, response) => response.end(JSON.stringify({ grpc, protocolVersions: ["certes.v1"] }));

  test("a name all of whose addresses are loopback is asked without TLS", async (t) => {
    const port = await answering(t, found({ address: "localhost:1", tls: false }));
    const place = { address: "127.0.0.1:1", tls: false, domain: "", asksCertificate: false };
    assert.deepEqual(await discover(away(port), undefined, local), place);
  });

  test("a name that has also another address is not", async (t) => {
    const port = await answering(t, found({ address: "127.0.0.1:1", tls: false }));
    const gateway = { resolve: async () => ["127.0.0.1", "192.0.2.1"], connectTo: "127.0.0.1" };
    assert.equal((await rejected(discover(away(port), undefined, gateway))).reason, "GATEWAY_UNREACHABLE");
  });

  test("gRPC by a name that is elsewhere is refused", async (t) => {
    const port = await answering(t, found({ address: "grpc.example:1", tls: false }));
    const resolve = async (host) => (host === "grpc.example" ? ["192.0.2.1"] : ["127.0.0.1"]);
    assert.equal((await rejected(discover(away(port), undefined, { resolve }))).reason, "GATEWAY_INSECURE");
  });

  for (const [why, reason, answer] of [
    ["a redirect", "GATEWAY_UNREACHABLE", (_, response) => response.writeHead(302, { location: "http://127.0.0.1:1/" }).end()],
    ["an error", "GATEWAY_UNREACHABLE", (_, response) => response.writeHead(503).end()],
    ["more than 64 KiB", "PROTOCOL_UNSUPPORTED", (_, response) => response.end(Buffer.alloc(65 * 1024, 0x20))],
    ["a connection that breaks", "GATEWAY_UNREACHABLE", (_, response) => response.destroy()],
    ["what is no JSON", "PROTOCOL_UNSUPPORTED", (_, response) => response.end("hello")],
  ]) {
    test(`${why} is refused: ${reason}`, async (t) => {
      const port = await answering(t, answer);
      assert.equal((await rejected(discover(away(port), undefined, local))).reason, reason);
    });
  }

  test("an answer that never comes is waited for by time, not for ever", async (t) => {
    const server = createSocketServer(() => {}).listen(0, "127.0.0.1");
    t.after(() => server.close());
    await once(server, "listening");
    const stop = { ...local, timeout: 50 };
    assert.equal((await rejected(discover(away(server.address().port), undefined, stop))).reason, "GATEWAY_UNREACHABLE");
  });

  test("addresses are judged by what they are, however they are spelled", () => {
    const loopback = ["127.0.0.1", "127.255.0.9", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"];
    const others = ["128.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "localhost", ""];
    assert.deepEqual([loopback.filter((text) => !isLoopbackAddress(text)), others.filter(isLoopbackAddress)], [[], []]);
  });
});

test("init asks nobody, and many calls ask the gateway once", async (t) => {
  const broker = await FakeBroker.start();
  t.after(() => broker.stop());
  const client = new Client(broker.uri, { app: "a" });
  t.after(() => client.close());
  assert.equal(broker.asked, 0);
  await Promise.all([client.ensureSubscriptions(client.event("d/a/1/x")), client.ensureSubscriptions(client.event("d/a/1/y"))]);
  assert.equal(broker.asked, 1);
});
