/** Tells the broker what became of a stream's deliveries. `settlements.ts` decides what is told and when; this does it. */

import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { AcknowledgeRequestSchema } from "../gen/certes/v1/event_service_pb.js";
import { reconnectWait } from "./backoff.js";
import { type Clock, pause } from "./clock.js";
import { asCertesError, type CertesError } from "./errors.js";
import type { Logger } from "./logger.js";
import type { Range } from "./ranges.js";
import { METHODS, type Rpc } from "./rpc.js";
import { LINGER, Settlements, type Settling } from "./settlements.js";

const TIMEOUT = 30_000;

/** The acknowledgements of one open stream. */
export class Acknowledgements {
  readonly #rpc: Rpc;
  readonly #stream: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #settlements: Settlements;
  readonly #ended = new AbortController();
  #deadline = 0;
  #telling: Promise<void> | undefined;
  #cancelLinger: (() => void) | undefined;

  constructor(rpc: Rpc, stream: string, options: { clock: Clock; logger: Logger; maxOutstanding: number }) {
    this.#rpc = rpc;
    this.#stream = stream;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#settlements = new Settlements(options.maxOutstanding);
  }

  /** A delivery is done. */
  ack(ordinal: number, orderingKey: string): void {
    if (this.#ended.signal.aborted) return;
    this.#settlements.ack(ordinal, orderingKey);
    this.#tellSoon();
  }

  /** A delivery failed. */
  nack(ordinal: number, reason: string): void {
    if (this.#ended.signal.aborted) return;
    this.#settlements.nack(ordinal, reason);
    this.#tellSoon();
  }

  /** Deliveries need longer: so many milliseconds from now. */
  extend(ordinals: readonly number[], deadline: number): void {
    if (this.#ended.signal.aborted) return;
    this.#deadline = deadline;
    this.#settlements.extend(ordinals);
    this.#tellSoon();
  }

  /** Resolves when all that was settled has been told. */
  async flush(): Promise<void> {
    while (!this.#settlements.isEmpty || this.#telling !== undefined) {
      this.#tell();
      await this.#telling;
    }
  }

  /** The stream has ended: what was not told concerns nobody any more. */
  end(): void {
    this.#ended.abort();
    this.#cancelLinger?.();
    this.#cancelLinger = undefined;
  }

  #tellSoon(): void {
    if (this.#telling !== undefined) return;
    if (this.#settlements.isUrgent) this.#tell();
    else this.#cancelLinger ??= this.#clock.after(LINGER, () => this.#tell());
  }

  #tell(): void {
    this.#cancelLinger?.();
    this.#cancelLinger = undefined;
    if (this.#telling !== undefined) return;
    this.#telling = this.#tellAll().finally(() => {
      this.#telling = undefined;
      if (!this.#settlements.isEmpty && !this.#ended.signal.aborted) this.#tellSoon();
    });
  }

  /** Tells what there is, and then what became urgent meanwhile. */
  async #tellAll(): Promise<void> {
    // What is settled in this turn of the event loop goes together: of a batch whose first event has a key, say.
    await Promise.resolve();
    let attempt = 0;
    do {
      const settling = this.#settlements.take();
      try {
        await this.#rpc.unary(METHODS.acknowledge, this.#request(settling), TIMEOUT, this.#ended.signal);
        attempt = 0;
      } catch (raised) {
        if (this.#ended.signal.aborted) return;
        const error = asCertesError(raised);
        attempt += 1;
        if (!(await this.#recover(settling, error, attempt))) return;
      }
    } while (this.#settlements.isUrgent && !this.#ended.signal.aborted);
  }

  /** What is to be done after a refusal; false if there is nothing more to tell on this stream. */
  async #recover(settling: Settling, error: CertesError, attempt: number): Promise<boolean> {
    if (error.reason === "STREAM_ENDED") {
      this.end();
      return false;
    }
    const ordinal = Number(error.metadata["ordinal"]);
    if (error.reason === "ORDINAL_NOT_OUTSTANDING" && Number.isSafeInteger(ordinal) && holds(settling, ordinal)) {
      this.#settlements.putBack(settling, ordinal);
      return true;
    }
    if (!error.retryable) {
      // To tell the same again would be refused again. What is not settled comes again.
      this.#logger.warn(`What became of deliveries could not be told to the broker: ${error}`, error);
      return true;
    }
    this.#settlements.putBack(settling);
    await pause(this.#clock, error.retryAfter ?? reconnectWait(attempt, this.#clock.chance()), this.#ended.signal);
    return !this.#ended.signal.aborted;
  }

  #request({ acked, nacked, extended }: Settling): Uint8Array {
    const request = create(AcknowledgeRequestSchema, {
      stream: this.#stream,
      acked: acked.map(rangeOf),
      nacked: nacked.map(({ ordinal, reason }) => ({ range: rangeOf([ordinal, ordinal]), reason })),
      extended: extended.map((range) => ({ range: rangeOf(range), deadline: durationFromMs(this.#deadline) })),
    });
    return toBinary(AcknowledgeRequestSchema, request);
  }
}

function rangeOf([first, last]: Range): { first: bigint; last: bigint } {
  return { first: BigInt(first), last: BigInt(last) };
}

function holds({ acked, nacked, extended }: Settling, ordinal: number): boolean {
  const within = ([first, last]: Range): boolean => first <= ordinal && ordinal <= last;
  return acked.some(within) || extended.some(within) || nacked.some((nack) => nack.ordinal === ordinal);
}
