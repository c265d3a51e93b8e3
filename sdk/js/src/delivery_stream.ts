/**
 * The stream of one subscription's deliveries: opened, read, opened again.
 *
 * Theory of operation
 * -------------------
 * `run` is a loop of streams. Each is read until it ends, by whatever: an end of the broker's, a refusal, a silence, the
 * client's `close`. `afterEnd` decides from that whether and when the next is opened. What the handlers of an ended stream
 * say concerns nobody, for its deliveries come again; the handlers themselves run to their end.
 */

import type { ClientReadableStream } from "@grpc/grpc-js";
import { create, toBinary } from "@bufbuild/protobuf";
import { SubscribeRequestSchema } from "../gen/certes/v1/event_service_pb.js";
import { Acknowledgements } from "./acknowledging.js";
import { reconnectWait } from "./backoff.js";
import { type Clock, pause } from "./clock.js";
import type { Connection } from "./connection.js";
import { CLOSED_BY_DELETION, type Frame, readFrame, type StreamDelivery } from "./deliveries.js";
import type { Dispatcher, Job } from "./dispatcher.js";
import { asCertesError, CertesError } from "./errors.js";
import type { Logger } from "./logger.js";
import { errorOf, METHODS, type Rpc } from "./rpc.js";
import type { Schemas } from "./schemas.js";

/** A stream that says nothing for so long is dead, in milliseconds: a heartbeat comes every 15 s. */
export const SILENCE = 45_000;
const LONGEST_EXTENSION = 60 * 60 * 1000;
const REFUSED_WAIT = 30;
const FINAL: ReadonlySet<string> = new Set(["SUBSCRIPTION_NOT_FOUND", "SUBSCRIPTION_DELETED"]);

/** What a stream needs of its client. */
export interface StreamParts {
  readonly connection: Connection;
  readonly dispatcher: Dispatcher;
  readonly schemas: Schemas;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly maxOutstanding: number;
  /** How long a delivery of a subscription may stay unsettled, in milliseconds. Must not raise. */
  ackDeadline(subscription: string): Promise<number>;
}

/** How a stream ended: whether it had deliveries, and by what. */
interface End {
  readonly hadBatch: boolean;
  readonly error: CertesError | undefined;
}

/** What follows the end of a stream: another, after a wait in seconds, or nothing. */
export type Next = { readonly wait: number } | { readonly final: CertesError };

/**
 * Decides what follows the end of a stream. `attempt` counts the streams that ended in a row without a batch, from 1.
 *
 * At once the first time, then with back-off. A subscription that is gone ends it for good; what else is refused may be
 * mended by whoever runs the broker, so it is tried every 30 s.
 */
export function afterEnd(error: CertesError | undefined, attempt: number, chance: number): Next {
  if (error !== undefined && FINAL.has(error.reason)) return { final: error };
  if (error !== undefined && !error.retryable && !isBroken(error)) return { wait: REFUSED_WAIT };
  if (attempt <= 1) return { wait: 0 };
  return { wait: Math.max(error?.retryAfter ?? 0, reconnectWait(attempt - 1, chance)) };
}

/** Whether an error says that the connection broke, rather than that something was refused. */
export function isBroken({ code, reason }: CertesError): boolean {
  return reason === code && (code === "CANCELLED" || code === "UNKNOWN" || code === "INTERNAL");
}

/** Hands the deliveries of one subscription to the handlers, for as long as it is not closed. */
export class DeliveryStream {
  readonly #subscription: string;
  readonly #parts: StreamParts;
  readonly #stop = new AbortController();
  #open: OpenStream | undefined;

  constructor(subscription: string, parts: StreamParts) {
    this.#subscription = subscription;
    this.#parts = parts;
  }

  /** Runs until it is closed. Raises when the subscription is gone. */
  async run(): Promise<void> {
    const { clock, logger } = this.#parts;
    let attempt = 0;
    while (!this.#stop.signal.aborted) {
      const { hadBatch, error: raised } = await this.#runOnce();
      const error = raised && this.#parts.connection.refusal(raised);
      if (this.#stop.signal.aborted) return;
      attempt = hadBatch ? 1 : attempt + 1;
      const next = afterEnd(error, attempt, clock.chance());
      if ("final" in next) throw next.final;
      if (error?.retryable ?? true) this.#parts.connection.lost();
      if (next.wait > 0 && error !== undefined && (attempt === 2 || next.wait === REFUSED_WAIT)) {
        logger.warn(`The stream of ${this.#subscription} is interrupted and will be tried again: ${error}`, error);
      }
      await pause(clock, next.wait, this.#stop.signal);
    }
  }

  /** Tells the broker what was settled. */
  async flush(): Promise<void> {
    await this.#open?.flush();
  }

  /** Ends the stream; what is not settled goes back to the broker at once. */
  close(): void {
    this.#stop.abort();
    this.#open?.cancel();
  }

  async #runOnce(): Promise<End> {
    try {
      const deadline = await this.#parts.ackDeadline(this.#subscription);
      const rpc = await this.#parts.connection.rpc();
      if (this.#stop.signal.aborted) return { hadBatch: false, error: undefined };
      this.#open = new OpenStream(rpc, this.#subscription, deadline, this.#parts);
      return await this.#open.read();
    } catch (error) {
      return { hadBatch: false, error: asCertesError(error) };
    } finally {
      this.#open = undefined;
    }
  }
}

/** One stream, from its opening to its end. */
class OpenStream {
  readonly #parts: StreamParts;
  readonly #rpc: Rpc;
  readonly #call: ClientReadableStream<Buffer>;
  readonly #deadline: number;
  /** Deliveries that wait or are handled, and when they came. */
  readonly #unsettled = new Map<number, number>();
  #acknowledgements: Acknowledgements | undefined;
  #lastHeard: number;
  #hadBatch = false;
  #ended = false;
  #closing: CertesError | undefined;
  #cancelTimers: (() => void)[] = [];

  constructor(rpc: Rpc, subscription: string, deadline: number, parts: StreamParts) {
    this.#parts = parts;
    this.#rpc = rpc;
    this.#deadline = deadline;
    this.#lastHeard = parts.clock.now();
    const request = create(SubscribeRequestSchema, {
      target: { case: "subscription", value: subscription },
      maxOutstanding: parts.maxOutstanding,
    });
    this.#call = rpc.serverStream(METHODS.subscribe, toBinary(SubscribeRequestSchema, request));
  }

  /** Reads to the end, and says how it ended. */
  read(): Promise<End> {
    this.#watchSilence();
    this.#extendLater();
    return new Promise((resolve) => {
      const end = (error: CertesError | undefined): void => {
        if (this.#ended) return;
        this.#ended = true;
        for (const cancel of this.#cancelTimers) cancel();
        this.#acknowledgements?.end();
        this.#unsettled.clear();
        resolve({ hadBatch: this.#hadBatch, error: this.#closing ?? error });
      };
      this.#call.on("data", (bytes: Buffer) => {
        try {
          this.#take(readFrame(bytes));
        } catch (error) {
          this.#closing ??= asCertesError(error);
          this.#call.cancel();
        }
      });
      this.#call.on("error", (error: Error) => end(errorOf(error)));
      this.#call.on("end", () => end(undefined));
    });
  }

  async flush(): Promise<void> {
    await this.#acknowledgements?.flush();
  }

  cancel(): void {
    this.#call.cancel();
  }

  #take(frame: Frame): void {
    this.#lastHeard = this.#parts.clock.now();
    switch (frame.kind) {
      case "opened":
        this.#acknowledgements = new Acknowledgements(this.#rpc, frame.stream, this.#parts);
        return;
      case "batch":
        this.#hadBatch = true;
        this.#parts.dispatcher.submitAll(frame.deliveries.map((delivery) => this.#job(delivery)));
        return;
      case "closing":
        if (frame.reason === CLOSED_BY_DELETION) {
          this.#closing = new CertesError(
            "FAILED_PRECONDITION",
            "SUBSCRIPTION_DELETED",
            frame.message || "The subscription was deleted.",
          );
        }
        return;
      case "heartbeat":
        return;
    }
  }

  #job(delivery: StreamDelivery): Job {
    const { ordinal, content, meta } = delivery;
    const { schemas, logger } = this.#parts;
    this.#unsettled.set(ordinal, this.#lastHeard);
    return {
      meta,
      decode: () => schemas.decode(meta.type, content),
      isWanted: () => !this.#ended,
      finish: (error) => {
        this.#unsettled.delete(ordinal);
        if (error === undefined) return this.#acknowledgements?.ack(ordinal, meta.orderingKey);
        logger.warn(`Event ${meta.id} of ${meta.type} was not handled: ${error}`, error);
        this.#acknowledgements?.nack(ordinal, error.reason === "HANDLER_FAILED" ? error.message : String(error));
      },
      // It goes back to the broker with the end of the stream.
      leave: () => this.#unsettled.delete(ordinal),
    };
  }

  /** Gives those that are handled, or wait for it, more time, before what they have is over. */
  #extendLater(): void {
    this.#later(this.#deadline / 3, () => {
      const now = this.#parts.clock.now();
      const young = [...this.#unsettled].filter(([, since]) => now - since < LONGEST_EXTENSION).map(([ordinal]) => ordinal);
      this.#acknowledgements?.extend(young, this.#deadline);
      this.#extendLater();
    });
  }

  #watchSilence(): void {
    const left = this.#lastHeard + SILENCE - this.#parts.clock.now();
    if (left > 0) return this.#later(left, () => this.#watchSilence());
    this.#closing = new CertesError("UNAVAILABLE", "STREAM_SILENT", `The stream said nothing for ${SILENCE / 1000} s.`);
    this.#call.cancel();
  }

  #later(milliseconds: number, act: () => void): void {
    const cancel = this.#parts.clock.after(milliseconds, () => {
      this.#cancelTimers = this.#cancelTimers.filter((other) => other !== cancel);
      if (!this.#ended) act();
    });
    this.#cancelTimers.push(cancel);
  }
}
