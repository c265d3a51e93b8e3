/** Time and chance, which tests have of their own. */

import { setMaxListeners } from "node:events";

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

/** Calls back when a signal is aborted; what is returned takes that back. */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  // That any number of calls wait for one signal is no leak: each takes it back.
  setMaxListeners(0, signal);
  signal.addEventListener("abort", act, { once: true });
  return () => signal.removeEventListener("abort", act);
}

/** Waits, in seconds; ends early where the signal is aborted. */
export function pause(clock: Clock, seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (seconds <= 0 || signal?.aborted) return resolve();
    const end = (): void => {
      cancel();
      takeBack?.();
      resolve();
    };
    const cancel = clock.after(seconds * 1000, end);
    const takeBack = signal && onAbort(signal, end);
  });
}

/** The time that something may take. Its signal is aborted when that is over, or one of other signals is aborted. */
export class TimeLimit {
  readonly #stop = new AbortController();
  readonly #clock: Clock;
  readonly #end: number;
  readonly #takeBack: (() => void)[];

  constructor(clock: Clock, milliseconds: number, ...others: readonly (AbortSignal | undefined)[]) {
    this.#clock = clock;
    this.#end = clock.now() + milliseconds;
    const abort = (): void => this.#stop.abort();
    this.#takeBack = [clock.after(milliseconds, abort)];
    for (const other of others) {
      if (other?.aborted) abort();
      else if (other !== undefined) this.#takeBack.push(onAbort(other, abort));
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
    for (const takeBack of this.#takeBack) takeBack();
  }
}
