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
