/** Ids of events: UUIDv7 (RFC 9562, 5.7), which are the cheapest for the broker, because they come in the order of time. */

import { randomUUID } from "node:crypto";

let lastTime = -1;
let prefix = "";

/** Makes an id. `now` is milliseconds since the epoch. */
export function newEventId(now: number): string {
  if (now !== lastTime) {
    const hex = now.toString(16).padStart(12, "0");
    prefix = `${hex.slice(0, 8)}-${hex.slice(8)}-7`;
    lastTime = now;
  }
  // Behind its version, a UUIDv4 is what a UUIDv7 is there: random, but for the variant.
  return prefix + randomUUID().slice("xxxxxxxx-xxxx-4".length);
}
