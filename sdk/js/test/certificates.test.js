/** The files of TLS: what is wrong with them is told at once, and what is renewed is shown. */

import assert from "node:assert/strict";
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, suite, test } from "node:test";
import { PushEventSchema } from "@certes/contrib/github";
import { Client } from "../dist/client.js";
import { discover } from "../dist/discovery.js";
import { FakeBroker, refusal } from "./fake_broker.js";
import { makeCertificate } from "./make_certificate.js";
import { raised, rejected } from "./vectors.js";

const PUSH = "community.certes.dev/github/1/push";
let folder;
let gateway;
let former;
let renewed;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "certes-"));
  [gateway, former, renewed] = ["gateway", "former", "renewed"].map((name) => makeCertificate(folder, name));
});

after(() => rmSync(folder, { recursive: true }));

suite("a file that is no good is refused by the name of its setting", () => {
  const inFolder = (name) => join(folder, name);
  for (const [field, said, given] of [
    ["ca_file", "no such file", () => ({ caFile: inFolder("missing") })],
    ["ca_file", "holds no certificate in PEM", () => ({ caFile: former.key })],
    ["certificate_key", "is missing", () => ({ certificate: former.certificate })],
    ["certificate", "is missing", () => ({ certificateKey: former.key })],
    ["certificate", "no such file", () => ({ certificate: inFolder("missing"), certificateKey: former.key })],
    ["certificate_key", "no such file", () => ({ certificate: former.certificate, certificateKey: inFolder("missing") })],
    ["certificate", "holds no certificate in PEM", () => ({ certificate: former.key, certificateKey: former.key })],
    ["certificate_key", "holds no private key", () => ({ certificate: former.certificate, certificateKey: former.certificate })],
    ["certificate_key", "is not the key of the", () => ({ certificate: former.certificate, certificateKey: renewed.key })],
  ]) {
    test(`${field}: ${said}`, () => {
      const error = raised(() => new Client("events://d.example", given()));
      assert.deepEqual([error.reason, error.metadata.field], ["FIELD_INVALID", field]);
      assert.ok(error.message.includes(said), error.message);
    });
  }

  test("but a certificate and its key may be in one file", () => {
    const both = inFolder("both.pem");
    copyFileSync(former.certificate, both);
    appendFileSync(both, readFileSync(former.key));
    new Client("events://d.example", { certificate: both, certificateKey: both });
  });
});

suite("a gateway that asks for certificates", () => {
  let asking;

  before(() => {
    const [key, cert] = [gateway.key, gateway.certificate].map((file) => readFileSync(file));
    const clientCa = Buffer.concat([former, renewed].map(({ certificate }) => readFileSync(certificate)));
    asking = { key, cert, clientCa };
  });

  test("is shown one by discovery", async (t) => {
    const broker = await FakeBroker.start({ tls: true, ...asking });
    t.after(() => broker.stop());
    const files = { ca: asking.cert, cert: readFileSync(former.certificate), key: readFileSync(former.key) };
    const away = { resolve: async () => ["192.0.2.1"], connectTo: "127.0.0.1" };
    const place = { host: "gateway", port: broker.http.address().port };
    assert.equal((await discover(place, files, away)).tls, true);
    const refused = await rejected(discover(place, { ca: asking.cert }, away));
    assert.equal(refused.reason, "GATEWAY_UNREACHABLE");
    assert.match(refused.hint, /name one by certificate and certificateKey/u);
  });

  test("is not connected to without one, where it says that gRPC asks", async (t) => {
    const broker = await FakeBroker.start({ tls: "grpc", ...asking });
    t.after(() => broker.stop());
    const grpc = { address: `127.0.0.1:${broker.port}`, tls: true, clientCertificate: true };
    broker.discovery = { grpc };
    const client = new Client(broker.uri, { app: "hub", caFile: gateway.certificate });
    t.after(() => client.close());
    const refused = await rejected(client.publish(PushEventSchema, {}, { everyone: true }));
    assert.deepEqual([refused.reason, refused.retryable], ["CERTIFICATE_MISSING", false]);
  });

  suite("is shown, once the former is refused,", () => {
    let broker;
    let client;
    let shown;
    const warned = [];

    beforeEach(async (t) => {
      broker = await FakeBroker.start({ tls: "grpc", ...asking });
      shown = { certificate: join(folder, "shown.pem"), certificateKey: join(folder, "shown.key") };
      show(former);
      const logger = { warn: (message) => warned.push(message) };
      client = new Client(broker.uri, { app: "hub", caFile: gateway.certificate, ...shown, logger });
      t.after(async () => {
        await client.close();
        await broker.stop();
      });
    });

    function show({ certificate, key }) {
      copyFileSync(certificate, shown.certificate);
      copyFileSync(key, shown.certificateKey);
    }

    const publish = () => client.publish(PushEventSchema, {}, { everyone: true });
    const accept = async (stream) => {
      const { requestId, events } = await stream.requests.next();
      stream.send({ requestId, outcome: { case: "accepted", value: { count: events.length } } });
    };
    const refuse = (stream) => stream.refuse(16, "CREDENTIALS_INVALID");

    test("the one that was renewed, for what is published", async () => {
      const first = publish();
      const stream = await broker.calls.PublishStream.next();
      assert.equal(stream.shown, "former");
      await accept(stream);
      await first;
      const second = publish();
      await stream.requests.next();
      refuse(stream);
      assert.equal((await rejected(second)).reason, "CREDENTIALS_INVALID");

      writeFileSync(shown.certificateKey, readFileSync(renewed.key));
      const third = publish();
      refuse(await broker.calls.PublishStream.next());
      assert.equal((await rejected(third)).reason, "CREDENTIALS_INVALID");
      assert.match(warned.join("\n"), /is not the key of the certificate/u);

      show(renewed);
      const fourth = publish();
      refuse(await broker.calls.PublishStream.next());
      const again = await broker.calls.PublishStream.next();
      assert.equal(again.shown, "renewed");
      await accept(again);
      await fourth;
    });

    test("the one that was renewed, for streams and single calls", async () => {
      client.on(PUSH, () => {});
      await client.ensureSubscriptions(client.event(PUSH));
      const stream = await broker.calls.Subscribe.next();
      show(renewed);
      refuse(stream);
      assert.equal((await broker.calls.Subscribe.next()).shown, "renewed");
      show(former);
      const answer = broker.answers.UpdateSubscription;
      broker.answers.UpdateSubscription = () => {
        broker.answers.UpdateSubscription = answer;
        throw refusal(16, "CREDENTIALS_INVALID");
      };
      await client.ensureSubscriptions(client.event(PUSH));
    });
  });
});
