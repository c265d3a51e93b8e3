/**
 * The bytes of events and requests to publish.
 *
 * An event is written once, when the call comes; a request is made of the events' bytes. That `repeated Event` and
 * `repeated bytes` are the same on the wire makes it possible.
 */

import { keep, type Span } from "./bytes_span.js";
import { WireWriter } from "./wire_writer.js";

/** What an event to publish says. Exactly one of `subscriber` and `everyone` is set. */
export interface OutgoingEvent {
  readonly id: string;
  readonly type: string;
  readonly source: string;
  readonly subject: string | undefined;
  readonly time: Date | undefined;
  readonly typeName: string;
  /** Writes the data, backwards. */
  readonly writeData: (writer: WireWriter) => void;
  readonly subscriber: string | undefined;
  readonly everyone: boolean;
  readonly orderingKey: string | undefined;
  readonly attributes: Readonly<Record<string, string>> | undefined;
  readonly traceparent: string | undefined;
  readonly tracestate: string | undefined;
}

const BYTES = 2;
const writer = new WireWriter();

/** Writes a `certes.v1.Event`. */
export function writeEvent(event: OutgoingEvent): Span {
  writer.reset();
  writeText(13, event.tracestate);
  writeText(12, event.traceparent);
  if (event.attributes !== undefined) writeAttributes(event.attributes);
  writeText(10, event.orderingKey);
  if (event.everyone) {
    writer.varint(1);
    writer.varint(9 * 8);
  }
  writeText(8, event.subscriber);
  const before = writer.written;
  event.writeData(writer);
  closeMessage(2, before);
  writeText(1, `type.googleapis.com/${event.typeName}`);
  closeMessage(6, before);
  if (event.time !== undefined) writeTime(5, event.time);
  writeText(4, event.subject);
  writeText(3, event.source);
  writeText(2, event.type);
  writeText(1, event.id);
  return keep(writer);
}

/** Events that were written before. */
type Written = readonly { readonly span: Span }[];

/** Writes a `certes.v1.PublishStreamRequest`. */
export function writeStreamRequest(requestId: string, events: Written, returnResults: boolean): Buffer {
  const request = Buffer.allocUnsafe(2 + requestId.length + sizeOf(events) + (returnResults ? 2 : 0));
  request[0] = 1 * 8 + BYTES;
  request[1] = requestId.length;
  let at = 2 + request.write(requestId, 2, "latin1");
  at = copyEvents(request, at, 2, events);
  if (returnResults) {
    request[at++] = 3 * 8;
    request[at++] = 1;
  }
  return request;
}

/** Writes a `certes.v1.PublishRequest`. */
export function writeJointRequest(events: Written): Buffer {
  const request = Buffer.allocUnsafe(sizeOf(events));
  copyEvents(request, 0, 1, events);
  return request;
}

function sizeOf(events: Written): number {
  let size = 0;
  for (const { span } of events) size += 1 + lengthOfVarint(span.end - span.start) + span.end - span.start;
  return size;
}

function copyEvents(request: Buffer, start: number, field: number, events: Written): number {
  let at = start;
  for (const { span } of events) {
    request[at++] = field * 8 + BYTES;
    let rest = span.end - span.start;
    for (; rest > 0x7f; rest >>>= 7) request[at++] = (rest & 0x7f) | 0x80;
    request[at++] = rest;
    at += span.buffer.copy(request, at, span.start, span.end);
  }
  return at;
}

function lengthOfVarint(value: number): number {
  let length = 1;
  for (let rest = value; rest > 0x7f; rest >>>= 7) length += 1;
  return length;
}

function writeText(field: number, text: string | undefined): void {
  if (text === undefined || text === "") return;
  writer.text(text);
  writer.varint(field * 8 + BYTES);
}

function writeAttributes(attributes: Readonly<Record<string, string>>): void {
  // In an order of their own, so that the same attributes are the same bytes, whoever put them together: the broker compares.
  for (const key of Object.keys(attributes).sort().reverse()) {
    const before = writer.written;
    writeText(2, attributes[key]);
    writeText(1, key);
    closeMessage(11, before);
  }
}

function writeTime(field: number, time: Date): void {
  const before = writer.written;
  const seconds = Math.floor(time.getTime() / 1000);
  const nanos = (time.getTime() - seconds * 1000) * 1e6;
  if (nanos > 0) {
    writer.varint(nanos);
    writer.varint(2 * 8);
  }
  if (seconds !== 0) {
    writer.varint64(BigInt(seconds));
    writer.varint(1 * 8);
  }
  closeMessage(field, before);
}

function closeMessage(field: number, before: number): void {
  writer.varint(writer.written - before);
  writer.varint(field * 8 + BYTES);
}
