/** Answers the broker's webhooks: verifies them, reads them, and hands them to the handlers. Knows no HTTP server. */

import { create, type Message } from "@bufbuild/protobuf";
import { RawContentSchema } from "../gen/certes/v1/event_pb.js";
import { readCloudEvent, type ReceivedEvent } from "./cloudevents.js";
import { clientClosed } from "./connection.js";
import type { Dispatcher } from "./dispatcher.js";
import { asCertesError, CertesError } from "./errors.js";
import type { Handlers } from "./handlers.js";
import type { Logger } from "./logger.js";
import type { Schemas } from "./schemas.js";
import type { HeaderPairs } from "./signatures.js";
import type { WebhookKeys } from "./webhook_keys.js";

/** How much of a body is read. */
export const MOST_BODY_BYTES = 16 * 1024 * 1024;

/** A request, whatever server it came by. */
export interface WebhookRequest {
  readonly method: string;
  readonly headers: HeaderPairs;
  /** Reads the body, byte for byte as it came. Raises `PAYLOAD_TOO_LARGE` beyond `MOST_BODY_BYTES`. */
  readonly body: () => Promise<Uint8Array>;
}

/** An answer. `body` is JSON, or empty. */
export interface WebhookAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What answering needs of its client. */
export interface WebhookParts {
  readonly keys: WebhookKeys;
  readonly schemas: Schemas;
  readonly handlers: Handlers;
  readonly dispatcher: Dispatcher;
  readonly logger: Logger;
  readonly isClosed: () => boolean;
}

/** Answers one request. Never raises. */
export async function answerWebhook(request: WebhookRequest, parts: WebhookParts): Promise<WebhookAnswer> {
  const method = request.method.toUpperCase();
  const origin = method === "OPTIONS" ? request.headers.find(([name]) => name.toLowerCase() === ORIGIN)?.[1] : undefined;
  if (method !== "POST" && !origin) {
    const error = new CertesError("INVALID_ARGUMENT", "METHOD_NOT_ALLOWED", "Webhooks are POSTed.");
    return refusal(405, error, { allow: "POST" });
  }
  try {
    if (parts.isClosed()) throw clientClosed();
    const body = await request.body();
    await parts.keys.verify(request.headers, body);
    if (origin) return consent(origin);
    await handle(readCloudEvent(request.headers, body), parts);
    return { status: 204, headers: {}, body: "" };
  } catch (raised) {
    const error = asCertesError(raised);
    return refusal(statusOf(error), error);
  }
}

const ORIGIN = "webhook-request-origin";

/** The answer to who asks whether it may send webhooks here, and signs as they are signed. */
function consent(origin: string): WebhookAnswer {
  return { status: 204, headers: { "webhook-allowed-origin": origin, "webhook-allowed-rate": "*", allow: "POST" }, body: "" };
}

const STATUSES: Readonly<Record<string, number>> = {
  PAYLOAD_MALFORMED: 400,
  PAYLOAD_TOO_LARGE: 400,
  SIGNATURE_INVALID: 401,
  SECRETS_UNAVAILABLE: 503,
  CLIENT_CLOSED: 503,
  NOT_INITIALIZED: 503,
};

function statusOf(error: CertesError): number {
  return STATUSES[error.reason] ?? 500;
}

/** The answer of a request that was not handled. */
export function refusal(status: number, error: CertesError, headers: Readonly<Record<string, string>> = {}): WebhookAnswer {
  const body = JSON.stringify({ reason: error.reason, message: error.message });
  return { status, headers: { "content-type": "application/json", ...headers }, body };
}

async function handle(event: ReceivedEvent, { schemas, handlers, dispatcher, logger }: WebhookParts): Promise<void> {
  const { meta } = event;
  if (meta.type.endsWith("/_test") && handlers.for(meta.type).length === 0) return;
  const error = await new Promise<CertesError | undefined>((finish) => {
    dispatcher.submit({ meta, decode: () => messageOf(event, schemas), isWanted: () => true, finish, leave: () => finish(clientClosed()) });
  });
  if (error === undefined) return;
  if (error.reason !== "CLIENT_CLOSED") logger.warn(`Event ${meta.id} of ${meta.type} was not handled: ${error}`, error);
  // What the data of an event is found to be while it is handled is no fault of the request's.
  throw error.reason in STATUSES && error.reason !== "CLIENT_CLOSED"
    ? new CertesError(error.code, "HANDLER_FAILED", error.message)
    : error;
}

async function messageOf({ meta, content }: ReceivedEvent, schemas: Schemas): Promise<Message> {
  if ("bytes" in content) return rawContent(content.contentType, content.bytes);
  const message = await schemas.read(meta.type, content.json);
  return message ?? rawContent(content.contentType, Buffer.from(JSON.stringify(content.json)));
}

function rawContent(contentType: string, bytes: Uint8Array): Message {
  return create(RawContentSchema, { contentType, bytes });
}
