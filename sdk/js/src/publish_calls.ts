/** A call of `publish`, and the requests that carry calls. */

import type { Span } from "./bytes_span.js";
import type { Waiting } from "./coalescing.js";
import type { CertesError } from "./errors.js";

/** Says what became of an event that is stored. */
export interface Receipt {
  /** The event's id. */
  readonly id: string;
  /** Whether it had been stored before, be it by an earlier try of the same call. */
  readonly duplicate: boolean;
  /** `events/{opaque position}`. Only where the caller gave the id: the broker is not asked for it otherwise. */
  readonly name: string | undefined;
}

/** One event on its way. */
export class Call implements Waiting {
  readonly size: number;
  readonly span: Span;
  readonly key: string;
  readonly id: string;
  /** Whether the broker is asked what became of this very event. */
  readonly wantsResult: boolean;
  /** When the call gives up, in milliseconds since the epoch. */
  readonly deadline: number;
  /** Resolves when the event is durable. */
  readonly done: Promise<Receipt>;
  isDecided = false;
  #resolve!: (receipt: Receipt) => void;
  #reject!: (error: CertesError) => void;

  constructor({ id, span, key, deadline, wantsResult }: Pick<Call, "id" | "span" | "key" | "deadline" | "wantsResult">) {
    this.id = id;
    this.span = span;
    this.size = span.end - span.start;
    this.key = key;
    this.deadline = deadline;
    this.wantsResult = wantsResult;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  accept(duplicate: boolean, name: string | undefined): void {
    if (this.isDecided) return;
    this.isDecided = true;
    this.#resolve({ id: this.id, duplicate, name });
  }

  refuse(error: CertesError): void {
    if (this.isDecided) return;
    this.isDecided = true;
    this.#reject(error);
  }
}

/** Calls that travel together. */
export interface Request {
  calls: readonly Call[];
  /** How often it was refused for now. */
  attempts: number;
  /** Is called once, when each call has its verdict. */
  readonly settled: () => void;
}
