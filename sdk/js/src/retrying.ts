/** Calls of the broker that are tried again for as long as that may help. */

import { reconnectWait } from "./backoff.js";
import { type Clock, onAbort, pause } from "./clock.js";
import type { Connection } from "./connection.js";
import { asCertesError, type CertesError } from "./errors.js";
import type { Rpc } from "./rpc.js";

/** What trying again needs. */
export interface Trying {
  readonly connection: Connection;
  readonly clock: Clock;
  /** Ends it, wherever it is. */
  readonly signal: AbortSignal;
  /** The error of such an end, by what stood in the way last. */
  readonly ended: (trouble: CertesError | undefined) => CertesError;
}

/**
 * Calls the broker until it answers, or refuses for good, which it raises. Between tries it waits as long as the refusal
 * says, else with back-off.
 */
export async function untilAnswered<Answer>(call: (rpc: Rpc) => Promise<Answer>, trying: Trying): Promise<Answer> {
  const { connection, clock, signal, ended } = trying;
  let trouble: CertesError | undefined;
  for (let attempt = 1; !signal.aborted; attempt += 1) {
    try {
      return await unlessAborted(connection.rpc().then(call), signal);
    } catch (raised) {
      if (signal.aborted) break;
      trouble = connection.refusal(asCertesError(raised));
      if (!trouble.retryable) throw trouble;
    }
    connection.lost();
    await pause(clock, trouble.retryAfter ?? reconnectWait(attempt, clock.chance()), signal);
  }
  throw ended(trouble);
}

/** What a promise comes to; raises what the signal is aborted with, should that be first. */
async function unlessAborted<Result>(promise: Promise<Result>, signal: AbortSignal): Promise<Result> {
  let takeBack: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => (takeBack = onAbort(signal, () => reject(signal.reason))));
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    takeBack?.();
  }
}
