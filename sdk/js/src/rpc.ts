/** Calls of the broker: bytes in, bytes out, and refusals as errors. */

import {
  ChannelCredentials,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { onAbort } from "./clock.js";
import type { Place } from "./discovery.js";
import { type CertesError, errorOfStatus } from "./errors.js";
import { plainStatus, readStatus } from "./rpc_status.js";
import type { TlsFiles } from "./tls_files.js";

const EVENTS = "/certes.v1.EventService/";
const MOST_RECEIVED = 8 * 1024 * 1024;
const WINDOW = 4 * 1024 * 1024;

export const METHODS = {
  acknowledge: `${EVENTS}Acknowledge`,
  publish: `${EVENTS}Publish`,
  publishStream: `${EVENTS}PublishStream`,
  subscribe: `${EVENTS}Subscribe`,
  getSchema: "/certes.v1.SchemaService/GetSchema",
  getSigningSecrets: "/certes.v1.SubscriptionService/GetSigningSecrets",
  getSubscription: "/certes.v1.SubscriptionService/GetSubscription",
  updateSubscription: "/certes.v1.SubscriptionService/UpdateSubscription",
} as const;

const asItIs = (bytes: Buffer): Buffer => bytes;

/** A channel to one place. */
export class Rpc {
  readonly place: Place;
  /** What it was opened with. */
  readonly files: TlsFiles;
  readonly #client: Client;
  readonly #metadata = new Metadata();

  constructor(place: Place, token?: string, files: TlsFiles = {}) {
    this.place = place;
    this.files = files;
    const { ca = null, key = null, cert = null } = files;
    const credentials = place.tls ? ChannelCredentials.createSsl(ca, key, cert) : ChannelCredentials.createInsecure();
    this.#client = new Client(place.address, credentials, {
      "grpc.max_receive_message_length": MOST_RECEIVED,
      "grpc-node.flow_control_window": WINDOW,
      // The waits between tries are those of the callers here, who know what they try.
      "grpc.initial_reconnect_backoff_ms": 50,
      "grpc.min_reconnect_backoff_ms": 50,
      "grpc.max_reconnect_backoff_ms": 1000,
      "grpc.enable_retries": 0,
      // Two clients in one process are to share nothing, and a closed one is to leave nothing behind.
      "grpc.use_local_subchannel_pool": 1,
      // A connection that died without a word is noticed by this.
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      // What is on loopback is not a proxy's to carry.
      ...(!place.tls && { "grpc.enable_http_proxy": 0 }),
    });
    if (token !== undefined) this.#metadata.set("authorization", `Bearer ${token}`);
  }

  /** One request, one answer, within some milliseconds. */
  unary(method: string, request: Uint8Array, timeout: number, signal?: AbortSignal): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + timeout };
      const call = this.#client.makeUnaryRequest(
        method,
        asItIs,
        asItIs,
        asBuffer(request),
        this.#metadata,
        options,
        (error, answer) => {
          takeBack?.();
          if (error) reject(errorOf(error));
          else resolve(answer!);
        },
      );
      if (signal?.aborted) call.cancel();
      const takeBack = signal && onAbort(signal, () => call.cancel());
    });
  }

  /** Opens a stream of answers to one request. */
  serverStream(method: string, request: Uint8Array): ClientReadableStream<Buffer> {
    return this.#client.makeServerStreamRequest(method, asItIs, asItIs, asBuffer(request), this.#metadata);
  }

  /** Opens a stream of requests and answers. */
  duplexStream(method: string): ClientDuplexStream<Buffer, Buffer> {
    return this.#client.makeBidiStreamRequest(method, asItIs, asItIs, this.#metadata);
  }

  /** Lets go of the connection when its calls have ended. */
  close(): void {
    this.#client.close();
  }
}

/** What a call ended with, as an error. */
export function errorOf(raised: Error): CertesError {
  const { code = 2, details, metadata } = raised as Partial<ServiceError> & Error;
  const plain = plainStatus(code, details ?? raised.message);
  const bytes = metadata?.get("grpc-status-details-bin")[0];
  return errorOfStatus(bytes instanceof Buffer ? readStatus(bytes, plain) : plain, raised);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
