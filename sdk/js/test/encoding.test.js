/** What the SDK writes and reads by itself is what the library writes and reads. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { create, createFileRegistry, fromBinary, ScalarType, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { calendly, github, slack, stripe } from "@certes/contrib";
import { DeliverySchema } from "../gen/certes/v1/delivery_pb.js";
import { EventSchema } from "../gen/certes/v1/event_pb.js";
import { PublishStreamRequestSchema, SubscribeResponseSchema } from "../gen/certes/v1/event_service_pb.js";
import { readFrame } from "../dist/deliveries.js";
import { writeEncoded } from "../dist/encoding.js";
import { writeEvent, writeStreamRequest } from "../dist/event_bytes.js";
import { newEventId } from "../dist/event_ids.js";
import { isSchema } from "../dist/registered_schemas.js";
import { hasUnknownFields } from "../dist/unknown_fields.js";
import { MalformedBytes, WireReader } from "../dist/wire_reader.js";
import { WireWriter } from "../dist/wire_writer.js";
import { raised } from "./vectors.js";

const catalogue = [calendly, github, slack, stripe].flatMap((module) => Object.values(module).filter(isSchema));

function encode(schema, message) {
  const writer = new WireWriter(64);
  writeEncoded(writer, schema, message);
  const bytes = Buffer.alloc(writer.written);
  writer.copyTo(bytes, 0);
  return bytes;
}

/** Chance that can be had again: a linear congruential generator. */
function chanceOf(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const TEXTS = ["", "a", "x".repeat(47), "y".repeat(48), "größe", "z".repeat(300), "😀", "k".repeat(127) + "ß"];
const INTEGERS = [0, 1, -1, 127, 128, 2 ** 31 - 1, -(2 ** 31)];
const NATURALS = [0, 1, 127, 128, 16383, 16384, 2 ** 31, 2 ** 32 - 1];
const LONGS = [0n, 1n, -1n, 127n, 128n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)];
const UNSIGNED_LONGS = [0n, 1n, 2n ** 32n, 2n ** 53n, 2n ** 64n - 1n];
const FLOATS = [0, -0, 1.5, -1e30, Infinity, -Infinity, NaN];

function scalar(type, pick) {
  const from = (values) => values[pick(values.length)];
  switch (type) {
    case ScalarType.STRING:
      return from(TEXTS);
    case ScalarType.BYTES:
      return Buffer.from(from(TEXTS));
    case ScalarType.BOOL:
      return pick(2) === 1;
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return from(FLOATS);
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return from(NATURALS);
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return from(INTEGERS);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return from(UNSIGNED_LONGS);
    default:
      return from(LONGS);
  }
}

/** Makes what `create` takes of a schema, by chance. */
function anyOf(schema, pick, depth = 0) {
  const init = {};
  const element = (kind, field) => {
    if (kind === "message") return anyOf(field.message, pick, depth + 1);
    return kind === "enum" ? field.enum.values[pick(field.enum.values.length)].number : scalar(field.scalar, pick);
  };
  for (const field of schema.fields) {
    if (pick(3) > 0 && depth > 0 && schema.fields.length > 4) continue;
    const holdsMessage = field.message !== undefined;
    if (depth >= 4 && holdsMessage) continue;
    let value;
    if (field.fieldKind === "list") value = Array.from({ length: pick(4) }, () => element(field.listKind, field));
    else if (field.fieldKind === "map") value = { k: element(field.mapKind, field) };
    else if (holdsMessage && /\.(Struct|\w*Value|ListValue)$/.test(field.message.typeName)) continue;
    else value = element(field.fieldKind, field);
    if (field.oneof === undefined) init[field.localName] = value;
    else init[field.oneof.localName] = { case: field.localName, value };
  }
  return init;
}

suite("messages are written as the library writes them", () => {
  test(`of all ${catalogue.length} schemas of the catalogue`, () => {
    assert.ok(catalogue.length > 100);
    for (const schema of catalogue) {
      for (let seed = 1; seed <= 4; seed += 1) {
        const init = anyOf(schema, chanceOf(seed * 7919 + schema.fields.length));
        const message = create(schema, init);
        const expected = Buffer.from(toBinary(schema, message));
        assert.ok(encode(schema, message).equals(expected), `${schema.typeName}, made, seed ${seed}`);
        assert.ok(encode(schema, init).equals(expected), `${schema.typeName}, not made, seed ${seed}`);
      }
    }
  });

  const everything = oneOfEverything();
  for (let seed = 1; seed <= 200; seed += 1) {
    test(`of every kind of field, seed ${seed}`, () => {
      const init = anyOf(everything, chanceOf(seed));
      const message = create(everything, init);
      const expected = Buffer.from(toBinary(everything, message));
      assert.deepEqual(encode(everything, message), expected);
      assert.deepEqual(encode(everything, init), expected);
    });
  }

  test("with fields that its schema does not know", () => {
    const schema = github.PushEventSchema;
    const message = create(schema, { ref: "r", repository: { fullName: "a/b" } });
    message.$unknown = [{ no: 9000, wireType: 0, data: Uint8Array.of(5) }];
    message.repository.$unknown = [{ no: 9001, wireType: 2, data: Uint8Array.of(1, 65) }];
    assert.deepEqual(encode(schema, message), Buffer.from(toBinary(schema, message)));
    assert.ok(hasUnknownFields(schema, fromBinary(schema, encode(schema, message))));
    message.$unknown = undefined;
    assert.ok(hasUnknownFields(schema, fromBinary(schema, encode(schema, message))), "within another message");
    message.repository.$unknown = undefined;
    assert.ok(!hasUnknownFields(schema, fromBinary(schema, encode(schema, message))));
  });

  for (const [why, wrong] of [
    ["a number where a text should be", { ref: 7 }],
    ["a text where a message should be", { repository: "meetly/app" }],
    ["a text where a list should be", { commits: "none" }],
    ["a text that is not well-formed", { ref: "\ud800".padEnd(60) }],
    ["a fraction where a whole number should be", { repository: { forksCount: 1.5 } }],
    ["another message", { repository: create(github.PushEventSchema) }],
  ]) {
    test(`or not at all: ${why}`, () => {
      const error = raised(() => encode(github.PushEventSchema, wrong));
      assert.deepEqual([error.reason, error.code], ["FIELD_INVALID", "INVALID_ARGUMENT"]);
      assert.match(error.metadata.field, /^message\.(ref|repository|commits)/);
    });
  }

  /** A message of every scalar, alone, optional, repeated and in a oneof, and of messages and maps. */
  function oneOfEverything() {
    const types = Array.from({ length: 18 }, (_, index) => index + 1).filter((type) => type !== 10);
    const fields = [];
    const add = (name, options) => fields.push({ name, number: fields.length + 1, label: 1, ...options });
    const typed = (type) => ({ type, ...(type === 11 && { typeName: ".t.All" }), ...(type === 14 && { typeName: ".t.Kind" }) });
    for (const type of types) add(`choice_${type}`, { ...typed(type), oneofIndex: 0 });
    for (const type of types) add(`one_${type}`, typed(type));
    for (const type of types) add(`many_${type}`, { ...typed(type), label: 3 });
    const optional = types.filter((type) => type !== 11);
    optional.forEach((type, index) => add(`maybe_${type}`, { ...typed(type), proto3Optional: true, oneofIndex: index + 1 }));
    add("by_name", { type: 11, typeName: ".t.All.ByNameEntry", label: 3 });
    const file = create(FileDescriptorProtoSchema, {
      ...{ name: "t.proto", package: "t", syntax: "proto3" },
      enumType: [{ name: "Kind", value: [0, 1, 200].map((number) => ({ name: `K${number}`, number })) }],
      messageType: [
        {
          ...{ name: "All", field: fields.sort(() => 0) },
          oneofDecl: [{ name: "choice" }, ...optional.map((type) => ({ name: `_maybe_${type}` }))],
          nestedType: [
            {
              ...{ name: "ByNameEntry", options: { mapEntry: true } },
              field: [
                { name: "key", number: 1, label: 1, type: 9 },
                { name: "value", number: 2, label: 1, type: 5 },
              ],
            },
          ],
        },
      ],
    });
    return createFileRegistry(create(FileDescriptorSetSchema, { file: [file] })).getMessage("t.All");
  }
});

suite("events", () => {
  const full = {
    ...{ id: "0193", type: "d/a/1/x", source: "apps/a", subject: "größe", time: new Date("2026-11-27T05:35:27.123Z") },
    ...{ typeName: "t.X", writeData: (writer) => writer.raw([8, 1]), subscriber: "org_1", everyone: false, orderingKey: "k" },
    ...{ attributes: { b: "2", a: "1" }, traceparent: "00-1", tracestate: "a=1" },
  };

  test("are written so that the library reads them", () => {
    const span = writeEvent(full);
    const event = fromBinary(EventSchema, span.buffer.subarray(span.start, span.end));
    const { $typeName, time, content, audience, ...rest } = event;
    assert.deepEqual(
      { ...rest, attributes: { ...rest.attributes } },
      {
        ...{ id: "0193", type: "d/a/1/x", source: "apps/a", subject: "größe", orderingKey: "k" },
        ...{ attributes: { a: "1", b: "2" }, traceparent: "00-1", tracestate: "a=1" },
      },
    );
    assert.deepEqual([time.seconds, time.nanos], [1795757727n, 123_000_000]);
    assert.deepEqual([content.value.typeUrl, [...content.value.value]], ["type.googleapis.com/t.X", [8, 1]]);
    assert.deepEqual(audience, { case: "subscriber", value: "org_1" });
  });

  test("of the same attributes are the same bytes, in whatever order they were put together", () => {
    const [one, other] = [full, { ...full, attributes: { a: "1", b: "2" } }].map(writeEvent);
    assert.deepEqual(one.buffer.subarray(one.start, one.end), other.buffer.subarray(other.start, other.end));
  });

  test("of years before 1970 keep their time", () => {
    const span = writeEvent({ ...full, time: new Date(-1500) });
    const { time } = fromBinary(EventSchema, span.buffer.subarray(span.start, span.end));
    assert.deepEqual([time.seconds, time.nanos], [-2n, 500_000_000]);
  });

  test("make requests that the library reads", () => {
    const spans = [full, { ...full, id: "y".repeat(200) }].map((event) => ({ span: writeEvent(event) }));
    const request = fromBinary(PublishStreamRequestSchema, writeStreamRequest("12", spans, true));
    assert.deepEqual(
      [request.requestId, request.returnResults, request.events.map(({ id }) => id)],
      ["12", true, ["0193", "y".repeat(200)]],
    );
  });

  test("have ids that are UUIDv7, each another, of the time", () => {
    const now = Date.parse("2026-11-27T05:35:27.123Z");
    const ids = Array.from({ length: 5000 }, () => newEventId(now));
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(Number.parseInt(ids[0].replace("-", "").slice(0, 12), 16), now);
  });
});

suite("frames", () => {
  const delivery = {
    ...{ name: "events/A", attempt: 3, acceptTime: { seconds: 1795757727n, nanos: 5_000_000 }, correlationIds: ["gw.1", "gw.2"] },
    event: {
      ...{ id: "1", type: "d/a/1/x", source: "s", subject: "größe", time: { seconds: -2n, nanos: 500_000_000 } },
      ...{ content: { case: "data", value: { typeUrl: "type.googleapis.com/t.X", value: Uint8Array.of(8, 1) } } },
      ...{ audience: { case: "everyone", value: true }, orderingKey: "k", attributes: { __proto__: "1", a: "2" } },
      ...{ traceparent: "00-1", tracestate: "a=1" },
    },
  };
  const frame = (batch) => Buffer.from(toBinary(SubscribeResponseSchema, create(SubscribeResponseSchema, { frame: batch })));
  const batch = frame({
    case: "batch",
    value: { firstOrdinal: 7n, deliveries: [create(DeliverySchema, delivery), create(DeliverySchema, {})] },
  });

  test("are read as the library would read them", () => {
    const { kind, deliveries } = readFrame(batch);
    assert.deepEqual([kind, deliveries.map(({ ordinal }) => ordinal)], ["batch", [7, 8]]);
    const [{ meta, content }] = deliveries;
    assert.deepEqual([content.typeName, [...content.value]], ["t.X", [8, 1]]);
    assert.deepEqual(
      { ...meta.toJSON() },
      {
        ...{
          type: "d/a/1/x",
          orderingKey: "k",
          attempt: 3,
          traceparent: "00-1",
          tracestate: "a=1",
          id: "1",
          source: "s",
          subject: "größe",
        },
        ...{ time: new Date(-1500), subscriber: "", everyone: true, attributes: { a: "2" }, name: "events/A" },
        ...{ acceptTime: new Date(1795757727005), correlationIds: ["gw.1", "gw.2"] },
      },
    );
    assert.deepEqual(readFrame(frame({ case: "opened", value: { stream: "s" } })), { kind: "opened", stream: "s" });
    assert.deepEqual(readFrame(frame({ case: "closing", value: { reason: 2, message: "m" } })), {
      kind: "closing",
      reason: 2,
      message: "m",
    });
    assert.equal(readFrame(frame({ case: "heartbeat", value: {} })).kind, "heartbeat");
  });

  test("that are cut off or garbled anywhere are read or refused, and nothing beyond them is", () => {
    const pick = chanceOf(42);
    for (let round = 0; round < 3000; round += 1) {
      const bytes = Buffer.from(batch.subarray(0, pick(batch.length + 1)));
      for (let flips = pick(3); flips > 0 && bytes.length > 0; flips -= 1) bytes[pick(bytes.length)] = pick(256);
      try {
        const read = readFrame(bytes);
        for (const { meta } of read.deliveries ?? []) meta.toJSON();
      } catch (error) {
        assert.ok(error instanceof MalformedBytes, error);
      }
    }
  });

  test("with groups nested without end are refused", () => {
    const reader = new WireReader(Buffer.alloc(100_000, 0x0b));
    reader.next();
    assert.ok(raised(() => reader.skip()) instanceof MalformedBytes);
  });
});
