/** Calls of `publish`, the requests that carry them, and the verdicts that are not the broker's. */

import type { Span } from "./bytes_span.js";
import type { Waiting } from "./coalescing.js";
import { CertesError } from "./errors.js";

/** Says what became of an event that is stored. */
export interface Receipt {
  /** The event's id. */
  readonly id: string;
  /**
   * Whether it had been stored before, be it by an earlier try of the same call. The broker is asked where the caller gave
   * the id, and by `publishAll`; false otherwise.
   */
  readonly duplicate: boolean;
  /** `events/{opaque position}`. The broker is asked for it as for `duplicate`; an empty text otherwise. */
  readonly name: string;
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

  accept(duplicate: boolean, name: string): void {
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
export class Request {
  calls: readonly Call[];
  /** How often it was refused for now. */
  attempts = 0;
  #onSettled: (() => void) | undefined;

  /** `onSettled` is called once, however often the request is said to be settled. */
  constructor(calls: readonly Call[], onSettled: () => void) {
    this.calls = calls;
    this.#onSettled = onSettled;
  }

  /** Each call has its verdict. */
  settled(): void {
    const onSettled = this.#onSettled;
    this.#onSettled = undefined;
    onSettled?.();
  }
}

/** The largest event that a request of 4 MiB can carry. */
const MOST_EVENT_BYTES = 4 * 1024 * 1024 - 256;

/** Raises `EVENT_TOO_LARGE`. */
export function judgeEventSize(bytes: number): void {
  if (bytes <= MOST_EVENT_BYTES) return;
  throw new CertesError("INVALID_ARGUMENT", "EVENT_TOO_LARGE", `The event has ${bytes} bytes; a request has at most 4 MiB.`);
}

const AGAIN = "Whether it was stored is not known: publish it again with the same id.";

/** The verdict where the time is over, by what stood in the way last. */
export function timedOut(cause: CertesError | undefined): CertesError {
  const trouble = cause === undefined ? "" : ` The last trouble was: ${cause}`;
  return new CertesError("DEADLINE_EXCEEDED", "TIMED_OUT", `The event was not answered in time.${trouble}`, { hint: AGAIN, cause });
}

/** The verdict where `close` has waited long enough. */
export function closedMeanwhile(): CertesError {
  return new CertesError("DEADLINE_EXCEEDED", "TIMED_OUT", "The client was closed before the event was answered.", { hint: AGAIN });
}

/** The verdict where the caller's signal is aborted. */
export function cancelled(signal: AbortSignal): CertesError {
  return new CertesError("CANCELLED", "CANCELLED", "The call was cancelled; whether the event was stored is not known.", {
    cause: signal.reason,
  });
}
