/**
 * The frames of a `Subscribe` stream, read from their bytes.
 *
 * A batch is most of what there is to read, and of a delivery most is not asked for: what decides (type, key, where the
 * data is) is read in one pass, the rest when a handler asks for it, the data once, for the handler.
 */

import { type EventFacts, EventMeta, type EventOutline } from "./event_meta.js";
import { MalformedBytes, WireReader } from "./wire_reader.js";

/** Why a stream ends: numbers of `SubscribeResponse.Reason`. */
export const CLOSED_BY_DELETION = 2;

/** One frame of a stream. */
export type Frame =
  | { readonly kind: "opened"; readonly stream: string }
  | { readonly kind: "batch"; readonly deliveries: readonly StreamDelivery[] }
  | { readonly kind: "heartbeat" }
  | { readonly kind: "closing"; readonly reason: number; readonly message: string };

/** The content of an event. `typeName` is the full name of its message; where it is undefined, `value` is a `RawContent`. */
export interface Content {
  readonly typeName: string | undefined;
  readonly value: Uint8Array;
}

/**
 * Reads a frame. Raises `MalformedBytes`. A frame of a kind that is not known counts as a heartbeat: it says that the
 * broker lives.
 */
export function readFrame(bytes: Buffer): Frame {
  const reader = new WireReader(bytes);
  let frame: Frame = { kind: "heartbeat" };
  while (reader.next()) {
    if (!reader.isBytes) reader.skip();
    else if (reader.field === 1) frame = { kind: "opened", stream: readOpened(reader.bytes()) };
    else if (reader.field === 2) frame = { kind: "batch", deliveries: readBatch(reader) };
    else if (reader.field === 4) frame = readClosing(reader.bytes());
    else reader.skip();
  }
  return frame;
}

function readOpened(bytes: Buffer): string {
  const reader = new WireReader(bytes);
  let stream = "";
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) stream = reader.text();
    else reader.skip();
  }
  return stream;
}

function readClosing(bytes: Buffer): Frame {
  const reader = new WireReader(bytes);
  let reason = 0;
  let message = "";
  while (reader.next()) {
    if (reader.field === 1 && reader.isVarint) reason = reader.varint();
    else if (reader.field === 2 && reader.isBytes) message = reader.text();
    else reader.skip();
  }
  return { kind: "closing", reason, message };
}

function readBatch(reader: WireReader): StreamDelivery[] {
  const deliveries: StreamDelivery[] = [];
  const outer = reader.enter();
  let first = 0;
  while (reader.next()) {
    if (reader.field === 1 && reader.isVarint) first = reader.varint();
    else if (reader.field === 2 && reader.isBytes) deliveries.push(new StreamDelivery(reader));
    else reader.skip();
  }
  reader.leave(outer);
  if (first < 1) throw new MalformedBytes("a batch has no first ordinal");
  for (const [index, delivery] of deliveries.entries()) delivery.ordinal = first + index;
  return deliveries;
}

const NOTHING = Buffer.alloc(0);

/** One delivery of a stream. */
export class StreamDelivery {
  ordinal = 0;
  readonly meta: EventMeta;
  readonly content: Content;

  /** Reads the delivery at hand. */
  constructor(reader: WireReader) {
    const draft = new Draft();
    const outer = reader.enter();
    const start = reader.position;
    while (reader.next()) {
      if (reader.field === 2 && reader.isVarint) draft.attempt = reader.varint();
      else if (reader.field === 5 && reader.isBytes) readEvent(reader, draft);
      else reader.skip();
    }
    const end = reader.position;
    reader.leave(outer);
    const { buffer } = reader;
    this.content = draft;
    this.meta = new EventMeta(draft, () => readFacts(new WireReader(buffer, start, end)));
  }
}

/** What is needed of every delivery. */
class Draft implements EventOutline, Content {
  type = "";
  orderingKey = "";
  traceparent = "";
  attempt = 0;
  typeName: string | undefined = undefined;
  value: Uint8Array = NOTHING;
}

function readEvent(reader: WireReader, draft: Draft): void {
  const outer = reader.enter();
  while (reader.next()) {
    if (!reader.isBytes) reader.skip();
    else if (reader.field === 2) draft.type = typeNames.text(reader);
    else if (reader.field === 6) readAny(reader, draft);
    else if (reader.field === 7) draft.value = reader.plainBytes();
    else if (reader.field === 10) draft.orderingKey = reader.text();
    else if (reader.field === 12) draft.traceparent = reader.text();
    else reader.skip();
  }
  reader.leave(outer);
}

function readAny(reader: WireReader, draft: Draft): void {
  draft.typeName = "";
  const outer = reader.enter();
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) draft.typeName = typeUrls.text(reader);
    else if (reader.field === 2 && reader.isBytes) draft.value = reader.plainBytes();
    else reader.skip();
  }
  draft.typeName = draft.typeName.slice(draft.typeName.lastIndexOf("/") + 1);
  reader.leave(outer);
}

/**
 * Keeps the text that came last: most deliveries are of the same few types, and to compare bytes costs less than to read
 * them.
 */
class LastText {
  #bytes: Buffer = NOTHING;
  #text = "";

  text(reader: WireReader): string {
    const start = reader.span();
    const end = reader.position;
    if (this.#bytes.length === end - start && this.#bytes.compare(reader.buffer, start, end) === 0) return this.#text;
    this.#bytes = Buffer.from(reader.buffer.subarray(start, end));
    return (this.#text = this.#bytes.toString());
  }
}

const typeNames = new LastText();
const typeUrls = new LastText();

/** The facts while they are read. A class, for objects that are made alike are read fast. */
class Facts implements EventFacts {
  id = "";
  source = "";
  subject = "";
  time: Date | undefined = undefined;
  subscriber = "";
  everyone = false;
  attributes: Record<string, string> = {};
  tracestate = "";
  name = "";
  acceptTime: Date | undefined = undefined;
  correlationIds: string[] = [];
}

function readFacts(reader: WireReader): EventFacts {
  const facts = new Facts();
  while (reader.next()) {
    if (!reader.isBytes) reader.skip();
    else if (reader.field === 1) facts.name = reader.text();
    else if (reader.field === 3) facts.acceptTime = readTime(reader.bytes());
    else if (reader.field === 4) facts.correlationIds.push(reader.text());
    else if (reader.field === 5) readEventFacts(reader, facts);
    else reader.skip();
  }
  return facts;
}

function readEventFacts(reader: WireReader, facts: Facts): void {
  const outer = reader.enter();
  while (reader.next()) {
    if (reader.field === 9 && reader.isVarint) facts.everyone = reader.varint() !== 0;
    else if (!reader.isBytes) reader.skip();
    else if (reader.field === 1) facts.id = reader.text();
    else if (reader.field === 3) facts.source = reader.text();
    else if (reader.field === 4) facts.subject = reader.text();
    else if (reader.field === 5) facts.time = readTime(reader.bytes());
    else if (reader.field === 8) facts.subscriber = reader.text();
    else if (reader.field === 11) readAttribute(reader.bytes(), facts.attributes);
    else if (reader.field === 13) facts.tracestate = reader.text();
    else reader.skip();
  }
  reader.leave(outer);
}

function readAttribute(bytes: Buffer, attributes: Record<string, string>): void {
  const reader = new WireReader(bytes);
  let key = "";
  let value = "";
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) key = reader.text();
    else if (reader.field === 2 && reader.isBytes) value = reader.text();
    else reader.skip();
  }
  // Not by assignment, to which `__proto__` would be special.
  Object.defineProperty(attributes, key, { value, enumerable: true, configurable: true, writable: true });
}

function readTime(bytes: Buffer): Date {
  const reader = new WireReader(bytes);
  let seconds = 0;
  let nanos = 0;
  while (reader.next()) {
    if (reader.field === 1 && reader.isVarint) seconds = reader.signed();
    else if (reader.field === 2 && reader.isVarint) nanos = reader.varint();
    else reader.skip();
  }
  return new Date(seconds * 1000 + nanos / 1e6);
}
