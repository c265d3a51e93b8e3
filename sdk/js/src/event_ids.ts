/** Ids of events: UUIDv7 (RFC 9562, 5.7), which are the cheapest for the broker, because they come in the order of time. */

import { randomFillSync } from "node:crypto";

const RANDOM_BYTES = 10;
/** To ask the system for 10 bytes costs as much as to ask for thousands. */
const pool = Buffer.allocUnsafe(RANDOM_BYTES * 400);
let used = pool.length;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
let lastTime = -1;
let lastPrefix = "";

/** Makes an id. `now` is milliseconds since the epoch. */
export function newEventId(now: number): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  if (now !== lastTime) {
    const hex = now.toString(16).padStart(12, "0");
    lastPrefix = `${hex.slice(0, 8)}-${hex.slice(8)}-7`;
    lastTime = now;
  }
  const at = used;
  used += RANDOM_BYTES;
  const byte = (offset: number): string => HEX[pool[at + offset]!]!;
  const variant = HEX[0x80 | (pool[at + 2]! & 0x3f)]!;
  return `${lastPrefix}${byte(0)}${byte(1)[0]!}-${variant}${byte(3)}-${byte(4)}${byte(5)}${byte(6)}${byte(7)}${byte(8)}${byte(9)}`;
}
