/**
 * What the broker is to be told of a stream's deliveries, and when.
 *
 * Rules
 * -----
 * * One `Acknowledge` is under way at a time; the next takes all that was settled meanwhile, as few ranges as possible.
 * * It waits up to 10 ms for more; but not where a quarter of what may be unsettled is waiting, nor for a delivery with an
 *   ordering key, whose next waits for it, nor for a failed one.
 * * Of one `Acknowledge` an ordinal is in one place: what was settled is not extended.
 * * A refusal that names one ordinal lets go of that one; the rest is told again.
 */

import { cutRanges, type Range } from "./ranges.js";

export const MOST_RANGES = 1000;
/** How long a settled delivery waits for others, in milliseconds. */
export const LINGER = 10;
const MOST_REASON_BYTES = 1024;

/** A delivery that failed, and why, for a person. */
export interface Nack {
  readonly ordinal: number;
  readonly reason: string;
}

/** One `Acknowledge`. */
export interface Settling {
  readonly acked: readonly Range[];
  readonly nacked: readonly Nack[];
  readonly extended: readonly Range[];
}

/** Collects what was settled. It does no I/O, and knows no time. */
export class Settlements {
  readonly #enough: number;
  #acked: number[] = [];
  #nacked: Nack[] = [];
  #extended: number[] = [];
  #isUrgent = false;

  constructor(maxOutstanding: number) {
    this.#enough = Math.max(1, Math.floor(maxOutstanding / 4));
  }

  /** Whether there is nothing to tell. */
  get isEmpty(): boolean {
    return this.#acked.length + this.#nacked.length + this.#extended.length === 0;
  }

  /** Whether it is to be told at once. */
  get isUrgent(): boolean {
    return this.#isUrgent || this.#acked.length >= this.#enough;
  }

  /** A delivery is done. */
  ack(ordinal: number, orderingKey: string): void {
    this.#acked.push(ordinal);
    if (orderingKey !== "") this.#isUrgent = true;
  }

  /** A delivery failed. */
  nack(ordinal: number, reason: string): void {
    this.#nacked.push({ ordinal, reason: cutText(reason, MOST_REASON_BYTES) });
    this.#isUrgent = true;
  }

  /** Deliveries need longer. */
  extend(ordinals: readonly number[]): void {
    this.#extended.push(...ordinals);
    if (ordinals.length > 0) this.#isUrgent = true;
  }

  /** Takes what the next `Acknowledge` says. */
  take(): Settling {
    this.#extended = this.#unsettled(this.#extended);
    const acked = cutRanges(this.#acked, MOST_RANGES);
    let left = MOST_RANGES - acked.now.length;
    const nacked = this.#nacked.splice(0, left);
    left -= nacked.length;
    const extended = cutRanges(this.#extended, left);
    this.#acked = acked.later;
    this.#extended = extended.later;
    this.#isUrgent = this.#nacked.length > 0 || this.#extended.length > 0 || this.#acked.length > 0;
    return { acked: acked.now, nacked, extended: extended.now };
  }

  /** Takes back what was not told, to tell it with what came meanwhile. One ordinal may be let go of. */
  putBack(settling: Settling, without?: number): void {
    this.#acked = [...ordinalsOf(settling.acked, without), ...this.#acked];
    this.#nacked = [...settling.nacked.filter(({ ordinal }) => ordinal !== without), ...this.#nacked];
    this.#extended = this.#unsettled([...ordinalsOf(settling.extended, without), ...this.#extended]);
    this.#isUrgent = true;
  }

  /** Those of some ordinals that were not settled: the others need no longer time, and the broker refuses one said twice. */
  #unsettled(ordinals: number[]): number[] {
    if (ordinals.length === 0) return ordinals;
    const settled = new Set([...this.#acked, ...this.#nacked.map(({ ordinal }) => ordinal)]);
    return ordinals.filter((ordinal) => !settled.has(ordinal));
  }
}

function ordinalsOf(ranges: readonly Range[], without: number | undefined): number[] {
  const ordinals: number[] = [];
  for (const [first, last] of ranges) {
    for (let ordinal = first; ordinal <= last; ordinal += 1) if (ordinal !== without) ordinals.push(ordinal);
  }
  return ordinals;
}

/** The beginning of a text, at most so many bytes of UTF-8, and no half of a character. */
export function cutText(text: string, bytes: number): string {
  if (text.length * 3 <= bytes) return text.toWellFormed();
  const encoded = Buffer.from(text.slice(0, bytes));
  if (encoded.length <= bytes) return encoded.toString();
  let end = bytes;
  while (end > 0 && (encoded[end]! & 0xc0) === 0x80) end -= 1;
  return encoded.toString("utf8", 0, end);
}
