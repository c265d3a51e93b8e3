/**
 * CloudEvents 1.0 in HTTP requests: structured (`application/cloudevents+json`) and binary (`ce-` headers).
 *
 * What CloudEvents does not have comes as extension attributes: `subscriber` or `everyone`, `orderingkey`, `traceparent`,
 * `tracestate`. All others are the event's own attributes.
 */

import type { JsonValue } from "@bufbuild/protobuf";
import { CertesError } from "./errors.js";
import { EventMeta } from "./event_meta.js";
import type { HeaderPairs } from "./signatures.js";
import { eventTypeText, parseEventType } from "./uris.js";

/** The content of an event: JSON, or bytes that no schema describes. */
export type ReceivedContent =
  { readonly json: JsonValue; readonly contentType: string } | { readonly bytes: Uint8Array; readonly contentType: string };

/** An event that came in a request. */
export interface ReceivedEvent {
  readonly meta: EventMeta;
  readonly content: ReceivedContent;
}

const STRUCTURED = "application/cloudevents+json";
const JSON_TYPE = "application/json";
const KNOWN = new Set([
  ...["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data", "data_base64"],
  ...["subscriber", "everyone", "orderingkey", "traceparent", "tracestate"],
]);
const RFC3339 = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2}|60)(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/u;

/** Reads the event of a request. Raises `PAYLOAD_MALFORMED`. */
export function readCloudEvent(headers: HeaderPairs, body: Uint8Array): ReceivedEvent {
  const contentType = headerValue(headers, "content-type") ?? "";
  if (mediaType(contentType) === STRUCTURED) return readStructured(body);
  if (headers.some(([name]) => name.toLowerCase() === "ce-specversion")) return readBinary(headers, contentType, body);
  throw malformed(`it is neither of the media type ${STRUCTURED} nor has it ce- headers`);
}

function readStructured(body: Uint8Array): ReceivedEvent {
  const document = parseJson(body);
  if (typeof document !== "object" || document === null || Array.isArray(document)) throw malformed("it is no JSON object");
  const attributes = new Map<string, string>();
  for (const [name, value] of Object.entries(document)) {
    if (name === "data" || name === "data_base64" || value === null) continue;
    attributes.set(name, attributeText(name, value));
  }
  return { meta: readMeta(attributes), content: structuredContent(document, attributes.get("datacontenttype") ?? JSON_TYPE) };
}

function structuredContent(document: Record<string, JsonValue>, contentType: string): ReceivedContent {
  const { data, data_base64: encoded } = document;
  if (encoded !== undefined && encoded !== null) {
    if (data !== undefined) throw malformed("it has both data and data_base64");
    if (typeof encoded !== "string" || !isBase64(encoded)) throw malformed("data_base64 is no base64");
    return { bytes: Buffer.from(encoded, "base64"), contentType };
  }
  // "If the datacontenttype declares the data to contain JSON-formatted content … otherwise a JSON string" (JSON Event Format, 3.1).
  if (!isJson(contentType) && typeof data === "string") return { bytes: Buffer.from(data), contentType };
  return { json: data ?? null, contentType };
}

function readBinary(headers: HeaderPairs, contentType: string, body: Uint8Array): ReceivedEvent {
  const attributes = new Map<string, string>();
  for (const [name, value] of headers) {
    const attribute = /^ce-(.+)$/iu.exec(name)?.[1]?.toLowerCase();
    if (attribute === undefined) continue;
    if (attributes.has(attribute)) throw malformed(`ce-${attribute} came more than once`);
    attributes.set(attribute, decodeHeader(attribute, value));
  }
  const meta = readMeta(attributes);
  if (isStructuredEvent(body)) throw malformed("it has ce- headers, and an event for its body");
  if (isJson(contentType)) return { meta, content: { json: parseJson(body), contentType } };
  return { meta, content: { bytes: body, contentType } };
}

/**
 * Whether a body is a structured event, whatever its content type says. The signature is that of the body alone: under other
 * headers the signed event of one request would be the signed data of any other.
 */
function isStructuredEvent(body: Uint8Array): boolean {
  let document: JsonValue;
  try {
    document = parseJson(body);
  } catch {
    return false;
  }
  if (typeof document !== "object" || document === null || Array.isArray(document)) return false;
  return Object.hasOwn(document, "specversion") && typeof document["specversion"] === "string";
}

function readMeta(attributes: ReadonlyMap<string, string>): EventMeta {
  if (attributes.get("specversion") !== "1.0") throw malformed("its specversion is not 1.0");
  const id = required(attributes, "id");
  const source = required(attributes, "source");
  const type = readType(required(attributes, "type"));
  const text = (name: string): string => attributes.get(name) ?? "";
  const facts = {
    ...{ id, source, subject: text("subject"), time: readTime(attributes.get("time")) },
    ...{ subscriber: text("subscriber"), everyone: text("everyone") === "true" },
    attributes: Object.fromEntries([...attributes].filter(([name]) => !KNOWN.has(name))),
    ...{ tracestate: text("tracestate"), name: "", acceptTime: undefined, correlationIds: [] },
  };
  const outline = { type, orderingKey: text("orderingkey"), attempt: undefined, traceparent: text("traceparent") };
  return new EventMeta(outline, () => facts);
}

function required(attributes: ReadonlyMap<string, string>, name: string): string {
  const value = attributes.get(name);
  if (value === undefined || value === "") throw malformed(`it has no ${name}`);
  return value;
}

function readType(text: string): string {
  try {
    return eventTypeText(parseEventType(text));
  } catch (error) {
    throw malformed(`its type is no event URI: ${error instanceof Error ? error.message : ""}`);
  }
}

function readTime(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const time = RFC3339.test(text) ? new Date(text.toUpperCase()) : undefined;
  if (time === undefined || Number.isNaN(time.getTime())) throw malformed("its time is not as RFC 3339 has it");
  return time;
}

/** "Boolean … Integer … String" (CloudEvents 1.0, "Type System"), each as it is written in a header. */
function attributeText(name: string, value: JsonValue): string {
  const isRequired = name === "id" || name === "source" || name === "type" || name === "specversion";
  if (typeof value === "string") return value;
  if (!isRequired && (typeof value === "boolean" || (typeof value === "number" && Number.isInteger(value)))) return String(value);
  throw malformed(`its ${name} is of no type that it could be`);
}

/**
 * Header values are percent-encoded UTF-8 (HTTP Protocol Binding, 3.1.3.2); what is beyond ASCII all the same counts as its
 * bytes.
 */
function decodeHeader(name: string, value: string): string {
  const bytes: number[] = [];
  for (let index = 0; index < value.length; index += 1) {
    if (value[index] !== "%") bytes.push(value.charCodeAt(index) & 0xff);
    else {
      const digits = value.slice(index + 1, index + 3);
      if (!/^[0-9A-Fa-f]{2}$/u.test(digits)) throw malformed(`ce-${name} has a '%' that encodes nothing`);
      bytes.push(Number.parseInt(digits, 16));
      index += 2;
    }
  }
  return decodeUtf8(Uint8Array.from(bytes));
}

function headerValue(headers: HeaderPairs, name: string): string | undefined {
  return headers.find(([found]) => found.toLowerCase() === name)?.[1];
}

function parseJson(body: Uint8Array): JsonValue {
  const text = decodeUtf8(body);
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    throw malformed("it is no JSON");
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw malformed("it is no UTF-8");
  }
}

function isJson(contentType: string): boolean {
  const type = mediaType(contentType);
  return type === JSON_TYPE || type.endsWith("+json");
}

function mediaType(contentType: string): string {
  return contentType.split(";", 1)[0]!.trim().toLowerCase();
}

function isBase64(text: string): boolean {
  return text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/u.test(text);
}

function malformed(problem: string): CertesError {
  return new CertesError("INVALID_ARGUMENT", "PAYLOAD_MALFORMED", `The request is no CloudEvent: ${problem}.`);
}
