/** The deciding parts, by the vectors that all SDKs share. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create, createFileRegistry, fromBinary, setExtension, toBinary } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  FileOptionsSchema,
  MessageOptionsSchema,
} from "@bufbuild/protobuf/wkt";
import { event as eventOption, file_certes_v1_options, schema as schemaOption } from "../gen/certes/v1/options_pb.js";
import { ProblemSchema } from "../gen/certes/v1/problem_pb.js";
import { reconnectWait } from "../dist/backoff.js";
import { bindingOf, eventTypeOf } from "../dist/bindings.js";
import { PublishQueue } from "../dist/coalescing.js";
import { judgeDiscovery } from "../dist/discovery.js";
import { errorOfProblem, errorOfStatus } from "../dist/errors.js";
import { Handlers } from "../dist/handlers.js";
import { matches, parsePattern } from "../dist/patterns.js";
import { cutRanges, rangesOf } from "../dist/ranges.js";
import { codeName, plainStatus, readStatus } from "../dist/rpc_status.js";
import { readSettings, subscriptionName } from "../dist/settings.js";
import { readKey, verifyWebhook } from "../dist/signatures.js";
import { authority, eventTypeText, parseEventType, parseGateway } from "../dist/uris.js";
import { raised, vectors } from "./vectors.js";

suite("URIs", () => {
  const { event_types: types, gateways } = vectors("uris");
  for (const { text, canonical, domain, namespace, version, name } of types.valid) {
    test(`${text} is an event URI`, () => {
      const parsed = parseEventType(text);
      assert.deepEqual(parsed, { domain, namespace, version, name });
      assert.equal(eventTypeText(parsed), canonical);
    });
  }
  for (const { text, host, port } of gateways.valid) {
    test(`${text} is a gateway`, () => assert.deepEqual(parseGateway(text), { host, port }));
  }
  for (const [what, parse, invalid] of [
    ["event URI", parseEventType, types.invalid],
    ["gateway", parseGateway, gateways.invalid],
  ]) {
    for (const { text, position, why } of invalid) {
      test(`no ${what}: ${why}, ${JSON.stringify(text.slice(0, 60))}`, () => {
        const error = raised(() => parse(text));
        assert.deepEqual([error.reason, error.metadata.position], ["MALFORMED_URI", String(position)]);
      });
    }
  }
  test("an authority has an IPv6 address in brackets", () => assert.equal(authority({ host: "::1", port: 1 }), "[::1]:1"));
});

suite("patterns", () => {
  const { valid, invalid } = vectors("patterns");
  for (const { pattern, canonical = pattern, matches: hits, misses } of valid) {
    test(`${pattern} matches what it should`, () => {
      const parsed = parsePattern(pattern);
      assert.equal(parsed.text, canonical);
      const isHit = (type) => matches(parsed, eventTypeText(parseEventType(type)));
      assert.deepEqual(
        hits.filter((type) => !isHit(type)),
        [],
      );
      assert.deepEqual(misses.filter(isHit), []);
    });
  }
  for (const { pattern, reason, position, why } of invalid) {
    test(`no pattern: ${why}, ${pattern.slice(0, 60)}`, () => {
      const error = raised(() => parsePattern(pattern));
      assert.deepEqual([error.reason, error.metadata.position], [reason, String(position)]);
    });
  }
});

suite("handlers", () => {
  for (const { why, patterns, events } of vectors("handlers").handlers) {
    test(why, () => {
      const handlers = new Handlers();
      patterns.forEach((pattern, index) => handlers.add(pattern, () => index));
      const run = (type) => handlers.for(type).map((handler) => handler());
      assert.deepEqual(
        events.map(({ type }) => run(type)),
        events.map((event) => event.run),
      );
    });
  }
});

suite("settings", () => {
  const { settings, names } = vectors("settings");
  const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  const read = ({ arguments: { uri, ...given }, environment }) =>
    readSettings(uri, Object.fromEntries(Object.entries(given).map(([name, value]) => [camel(name), value])), environment);
  for (const vector of settings) {
    test(`${vector.why}, ${JSON.stringify(vector.arguments).slice(0, 60)} ${JSON.stringify(vector.environment).slice(0, 60)}`, () => {
      const { expect } = vector;
      if (expect.reason !== undefined) {
        const error = raised(() => read(vector));
        assert.equal(error.reason, expect.reason);
        if ("position" in expect) assert.equal(error.metadata.position, String(expect.position));
        if ("field" in expect) assert.equal(error.metadata.field, expect.field);
        for (const secret of [vector.arguments.token, vector.environment.CERTES_WEBHOOK_KEYS]) {
          if (secret !== undefined)
            assert.ok(!`${error} ${JSON.stringify(error.metadata)}`.includes(secret), "a secret is in the error");
        }
        return;
      }
      const found = read(vector);
      for (const [name, value] of Object.entries(expect)) {
        const has = found[camel(name)] ?? null;
        assert.deepEqual(typeof has === "bigint" ? Number(has) : has, value, name);
      }
    });
  }
  for (const { subscriber, app, name, subscription } of names) {
    test(`the subscription is ${subscription}`, () =>
      assert.equal(subscriptionName(subscriber, app, name ?? undefined), subscription));
  }
});

suite("discovery", () => {
  for (const { why, found_on_loopback: local, body, expect } of vectors("discovery").answers) {
    test(why, () => {
      const { asks_certificate: asksCertificate = false, ...place } = expect;
      if (expect.reason === undefined) assert.deepEqual(judgeDiscovery(body, local), { ...place, asksCertificate });
      else assert.equal(raised(() => judgeDiscovery(body, local)).reason, expect.reason);
    });
  }
});

suite("errors", () => {
  const { refusals, plain } = vectors("errors");
  const shown = (error) => ({
    code: error.code,
    reason: error.reason,
    message: error.message,
    text: String(error),
    hint: error.hint,
    metadata: error.metadata,
    violations: error.violations,
    retryable: error.retryable,
    retry_after: error.retryAfter ?? null,
  });
  for (const { why, status, problem, expect } of refusals) {
    test(`a status: ${why}`, () => {
      const read = readStatus(Buffer.from(status, "base64"), plainStatus(2, "nothing was read"));
      assert.deepEqual(shown(errorOfStatus(read)), expect);
    });
    test(`a problem: ${why}`, () => {
      assert.deepEqual(shown(errorOfProblem(fromBinary(ProblemSchema, Buffer.from(problem, "base64")))), expect);
    });
    test(`a status that is cut off anywhere is still an error: ${why}`, () => {
      const bytes = Buffer.from(status, "base64");
      for (let end = 0; end < bytes.length; end += 1) {
        const { code } = errorOfStatus(readStatus(bytes.subarray(0, end), plainStatus(14, "cut off")));
        assert.ok(["UNAVAILABLE", expect.code].includes(code), code);
      }
    });
  }
  for (const { number, message, expect } of plain) {
    test(`without details: ${codeName(number)}`, () =>
      assert.deepEqual(shown(errorOfStatus(plainStatus(number, message))), expect));
  }
});

suite("event types", () => {
  for (const { why, package: packageName, message, schema, event, broker_domain: domain, expect } of vectors("event_types").types) {
    test(why, () => {
      const desc = declare(packageName, message, schema, event);
      const find = () => eventTypeOf(bindingOf(desc), packageName, message, domain);
      if (typeof expect === "string") assert.equal(find(), expect);
      else assert.equal(raised(find).reason, expect.reason);
    });
  }

  /** Compiles a message with such options, as a program would have it generated. */
  function declare(packageName, name, schema, event) {
    const options = create(FileOptionsSchema);
    if (schema !== null) setExtension(options, schemaOption, schema);
    const messageOptions = create(MessageOptionsSchema);
    if (event !== null) setExtension(messageOptions, eventOption, event);
    const file = create(FileDescriptorProtoSchema, {
      ...{ name: "x.proto", package: packageName, syntax: "proto3", dependency: ["certes/v1/options.proto"], options },
      messageType: [{ name, options: messageOptions }],
    });
    const set = create(FileDescriptorSetSchema, {
      file: [...file_certes_v1_options.dependencies.map(({ proto }) => proto), file_certes_v1_options.proto, file],
    });
    // Over the wire, since a program's options are never those that were set here.
    const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, toBinary(FileDescriptorSetSchema, set)));
    return registry.getMessage(packageName === "" ? name : `${packageName}.${name}`);
  }
});

suite("ranges", () => {
  const { ranges, cut } = vectors("ranges");
  for (const { ordinals, ranges: expected } of ranges) {
    test(`of ${JSON.stringify(ordinals).slice(0, 60)}`, () => assert.deepEqual(rangesOf(ordinals), expected));
  }
  for (const { maximum, ordinals, now, later } of cut) {
    test(`of ${JSON.stringify(ordinals)}, ${maximum} at most`, () =>
      assert.deepEqual(cutRanges(ordinals, maximum), { now, later }));
  }
});

test("the waits before the broker is tried again are those of all SDKs", () => {
  for (const { try: attempt, chance, wait } of vectors("reconnecting").waits) {
    assert.ok(Math.abs(reconnectWait(attempt, chance) - wait) < 1e-6, `try ${attempt}, chance ${chance}`);
  }
});

suite("the queue of events to publish", () => {
  for (const { why, steps } of vectors("coalescing").queues) {
    test(why, () => {
      const queue = new PublishQueue();
      const underWay = [];
      for (const step of steps) {
        for (const { id, bytes, key } of step.add ?? []) queue.add({ id, size: bytes, key });
        if (step.take !== undefined) {
          const request = queue.take();
          assert.deepEqual(
            request.map(({ id }) => id),
            step.take,
          );
          underWay.push(request);
        }
        if (step.answered !== undefined) {
          const request = underWay.find((one) => one.length > 0 && one.every(({ id }) => step.answered.includes(id)));
          queue.answered(request);
        }
      }
    });
  }
});

suite("signatures", () => {
  const { secrets, verify } = vectors("signatures");
  for (const { text, hex } of secrets.valid) {
    test(`${text} is a secret`, () => assert.equal(readKey(text).secret.toString("hex"), hex));
  }
  for (const { text, why } of secrets.invalid) {
    test(`no secret: ${why}`, () => assert.notEqual(readKey(text)?.version, "v1"));
  }
  const ours = verify.filter(({ scheme }) => scheme.scheme === "standard_webhooks");
  test("there are vectors", () => assert.ok(ours.length > 30));
  for (const { why, secrets: texts, headers, body, body_base64: encoded, now, problem } of ours) {
    test(why, () => {
      const keys = texts.map(readKey).filter((key) => key !== undefined);
      const bytes = encoded === undefined ? Buffer.from(body) : Buffer.from(encoded, "base64");
      const judge = () => verifyWebhook(keys, headers, bytes, now);
      if (problem === null) judge();
      else assert.deepEqual([raised(judge).reason, raised(judge).metadata.problem], ["SIGNATURE_INVALID", problem]);
    });
  }
});
