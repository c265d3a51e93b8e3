/**
 * Bytes that share a larger buffer. A view of a buffer costs more to make, and to throw away, than the bytes of a small
 * event.
 */

import type { WireWriter } from "./wire_writer.js";

/** From `start` to `end` of a buffer. */
export interface Span {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

const SLAB = 128 * 1024;
let slab: Buffer = Buffer.alloc(0);
let used = 0;

/**
 * Keeps what was written. Spans that are made after one another lie side by side; their buffer lives as long as any of
 * them.
 */
export function keep(writer: WireWriter): Span {
  const size = writer.written;
  if (size > SLAB / 4) {
    const buffer = Buffer.allocUnsafeSlow(size);
    writer.copyTo(buffer, 0);
    return { buffer, start: 0, end: size };
  }
  if (used + size > slab.length) {
    slab = Buffer.allocUnsafeSlow(SLAB);
    used = 0;
  }
  const start = used;
  writer.copyTo(slab, start);
  used += size;
  return { buffer: slab, start, end: used };
}
