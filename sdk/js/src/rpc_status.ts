/**
 * `google.rpc.Status` and the three of its details that the broker uses.
 *
 * They are read field by field, because no generated code for `google.rpc` comes with protobuf-es, and because what arrives
 * in `grpc-status-details-bin` may come from any proxy: details that do not decode are passed over, and the status itself
 * still counts.
 */

import { MalformedBytes, WireReader } from "./wire_reader.js";

const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** The canonical name of a gRPC code. */
export type CodeName = (typeof CODES)[number];

/** What a status says. `reason` is empty where it has no `ErrorInfo`; `retryAfter` is seconds. */
export interface RpcStatus {
  readonly code: number;
  readonly message: string;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly { field: string; description: string }[];
  readonly retryAfter: number | undefined;
}

/** The name of a code; `UNKNOWN` for a number that is none. */
export function codeName(code: number): CodeName {
  return CODES[code] ?? "UNKNOWN";
}

/** A status without details, as proxies and broken connections make it. */
export function plainStatus(code: number, message: string): RpcStatus {
  return { code, message, reason: "", metadata: {}, violations: [], retryAfter: undefined };
}

/** Reads a serialised `google.rpc.Status`. What does not decode counts as absent; `plain` is what gRPC itself said. */
export function readStatus(bytes: Uint8Array, plain: RpcStatus): RpcStatus {
  const found: Draft = { ...plain, metadata: {}, violations: [] };
  try {
    const reader = new WireReader(bytes);
    while (reader.next()) {
      if (reader.field === 1 && reader.isVarint) found.code = reader.varint();
      else if (reader.field === 2 && reader.isBytes) found.message = reader.text();
      else if (reader.field === 3 && reader.isBytes) readDetail(reader.bytes(), found);
      else reader.skip();
    }
  } catch (error) {
    if (error instanceof MalformedBytes) return plain;
    throw error;
  }
  return found;
}

interface Draft {
  code: number;
  message: string;
  reason: string;
  metadata: Record<string, string>;
  violations: { field: string; description: string }[];
  retryAfter: number | undefined;
}

function readDetail(any: Uint8Array, found: Draft): void {
  let type = "";
  let value: Uint8Array = new Uint8Array();
  const reader = new WireReader(any);
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) type = reader.text();
    else if (reader.field === 2 && reader.isBytes) value = reader.bytes();
    else reader.skip();
  }
  switch (type.slice(type.lastIndexOf("/") + 1)) {
    case "google.rpc.ErrorInfo":
      return readErrorInfo(value, found);
    case "google.rpc.BadRequest":
      return readBadRequest(value, found);
    case "google.rpc.RetryInfo":
      return readRetryInfo(value, found);
  }
}

function readErrorInfo(bytes: Uint8Array, found: Draft): void {
  const reader = new WireReader(bytes);
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) found.reason = reader.text();
    else if (reader.field === 3 && reader.isBytes) {
      const [key, value] = readPair(reader.bytes());
      found.metadata[key] = value;
    } else reader.skip();
  }
}

function readBadRequest(bytes: Uint8Array, found: Draft): void {
  const reader = new WireReader(bytes);
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) {
      const [field, description] = readPair(reader.bytes());
      found.violations.push({ field, description });
    } else reader.skip();
  }
}

function readRetryInfo(bytes: Uint8Array, found: Draft): void {
  const reader = new WireReader(bytes);
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) found.retryAfter = readDuration(reader.bytes());
    else reader.skip();
  }
}

function readDuration(bytes: Uint8Array): number {
  let seconds = 0;
  let nanos = 0;
  const reader = new WireReader(bytes);
  while (reader.next()) {
    if (reader.field === 1 && reader.isVarint) seconds = reader.signed();
    else if (reader.field === 2 && reader.isVarint) nanos = reader.signed();
    else reader.skip();
  }
  return seconds + nanos / 1e9;
}

/** Two texts in the fields 1 and 2, as a map's entry and a field violation have them. */
function readPair(bytes: Uint8Array): [string, string] {
  let first = "";
  let second = "";
  const reader = new WireReader(bytes);
  while (reader.next()) {
    if (reader.field === 1 && reader.isBytes) first = reader.text();
    else if (reader.field === 2 && reader.isBytes) second = reader.text();
    else reader.skip();
  }
  return [first, second];
}
