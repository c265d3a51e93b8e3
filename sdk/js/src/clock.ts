/** Time and chance, which tests have of their own. */

/** Tells the time, makes chance, and wakes. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** A number from 0 to 1, by chance. */
  chance(): number;
  /** Calls back once, after some milliseconds, unless the returned function is called before. */
  after(milliseconds: number, wake: () => void): () => void;
}

/** The machine's clock. A wait keeps the process alive. */
export const systemClock: Clock = {
  now: Date.now,
  chance: Math.random,
  after(milliseconds, wake) {
    const timer = setTimeout(wake, milliseconds);
    return () => clearTimeout(timer);
  },
};

/** Waits, in seconds; ends early where the signal is aborted. */
export function pause(clock: Clock, seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (seconds <= 0 || signal?.aborted) return resolve();
    const end = (): void => {
      cancel();
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const cancel = clock.after(seconds * 1000, end);
    signal?.addEventListener("abort", end, { once: true });
  });
}

/** The time that something may take. Its signal is aborted when that is over, or one of other signals is aborted. */
export class TimeLimit {
  readonly #stop = new AbortController();
  readonly #clock: Clock;
  readonly #others: readonly AbortSignal[];
  readonly #end: number;
  readonly #cancel: () => void;

  constructor(clock: Clock, milliseconds: number, ...others: readonly (AbortSignal | undefined)[]) {
    this.#clock = clock;
    this.#end = clock.now() + milliseconds;
    this.#cancel = clock.after(milliseconds, this.#abort);
    this.#others = others.filter((other) => other !== undefined);
    for (const other of this.#others) {
      if (other.aborted) this.#abort();
      else other.addEventListener("abort", this.#abort);
    }
  }

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Milliseconds. */
  get left(): number {
    return Math.max(0, this.#end - this.#clock.now());
  }

  /** Lets go, when it has been done. */
  release(): void {
    this.#cancel();
    for (const other of this.#others) other.removeEventListener("abort", this.#abort);
  }

  readonly #abort = (): void => this.#stop.abort();
}
