/// <reference types="node" preserve="true" />

/** Webhooks at the usual HTTP servers: `node:http`, Express, and whatever takes a `Request` and gives a `Response`. */

import type { IncomingMessage, ServerResponse } from "node:http";
import { CertesError } from "./errors.js";
import type { HeaderPairs } from "./signatures.js";
import { MOST_BODY_BYTES, refusal, type WebhookAnswer, type WebhookRequest } from "./webhook.js";

/** Handles the requests of `node:http`'s servers. */
export type NodeHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** Handles the requests of Express, 4 and 5, and of whatever else hands on Node's own. */
export type ExpressHandler = (request: IncomingMessage & { body?: unknown }, response: ServerResponse, next?: unknown) => void;

/** Handles the requests of servers that are made of `fetch`. */
export type FetchHandler = (request: Request) => Promise<Response>;

/** Answers a request; what a client gives to these handlers. */
export type Answer = (request: WebhookRequest) => Promise<WebhookAnswer>;

/** Makes a handler for `http.createServer`, and for Express. */
export function nodeHandlerOf(answer: Answer): ExpressHandler {
  return (request, response) => {
    const body = bodyOf(request);
    const answered =
      body === undefined
        ? Promise.resolve(refusal(500, consumed()))
        : answer({ method: request.method ?? "", headers: pairsOf(request.rawHeaders), body });
    void answered.then((result) => write(response, result, request));
  };
}

/** Makes a handler for servers that are made of `fetch`. */
export function fetchHandlerOf(answer: Answer): FetchHandler {
  return async (request) => {
    const { status, headers, body } = request.bodyUsed
      ? refusal(500, consumed())
      : await answer({ method: request.method, headers: [...request.headers], body: () => readAtMost(request.body ?? []) });
    return new Response(status === 204 ? null : body, { status, headers: { ...headers } });
  };
}

/** How the bytes of a body are to be had; not at all where somebody has read and parsed them before. */
function bodyOf(request: IncomingMessage & { body?: unknown; rawBody?: unknown }): (() => Promise<Uint8Array>) | undefined {
  for (const found of [request.body, request.rawBody]) {
    if (found instanceof Uint8Array) return async () => (found.length > MOST_BODY_BYTES ? Promise.reject(tooLarge()) : found);
  }
  return request.readableDidRead ? undefined : () => readAtMost(request);
}

async function readAtMost(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Uint8Array> {
  const read: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > MOST_BODY_BYTES) throw tooLarge();
    read.push(chunk);
  }
  return Buffer.concat(read);
}

function pairsOf(rawHeaders: readonly string[]): HeaderPairs {
  const pairs: [string, string][] = [];
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) pairs.push([rawHeaders[index]!, rawHeaders[index + 1]!]);
  return pairs;
}

function write(response: ServerResponse, { status, headers, body }: WebhookAnswer, request: IncomingMessage): void {
  if (response.headersSent || response.destroyed) return;
  // What was not read of a request would have to be, before the connection can serve another.
  if (!request.complete) response.setHeader("connection", "close");
  response.writeHead(status, { ...headers, ...(status !== 204 && { "content-length": Buffer.byteLength(body) }) });
  response.end(status === 204 ? undefined : body);
}

function tooLarge(): CertesError {
  return new CertesError("INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE", `The body has more than ${MOST_BODY_BYTES} bytes.`);
}

function consumed(): CertesError {
  return new CertesError(
    "FAILED_PRECONDITION",
    "BODY_CONSUMED",
    "The body was read before it could be verified byte for byte. Mount the handler before the body parser, such as express.json(), " +
      "or put express.raw({type: '*/*'}) before it.",
  );
}
