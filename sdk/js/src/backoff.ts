/** The wait between tries to reach the broker again. */

const FIRST = 0.1;
const LONGEST = 10;

/**
 * How long to wait before the n-th try in a row, in seconds: `min(10 s, 0.1 s · 2^(n−1)) · (1 + chance) / 2`.
 *
 * `attempt` counts from 1; `chance` is from 0 to 1.
 */
export function reconnectWait(attempt: number, chance: number): number {
  return (Math.min(LONGEST, FIRST * 2 ** (attempt - 1)) * (1 + chance)) / 2;
}
