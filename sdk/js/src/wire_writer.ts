/**
 * Writes the protobuf wire format backwards, from the end of a buffer to its beginning.
 *
 * A message within a message has its length before it. Written forwards, that length has to be found first, or room left
 * and the content moved; written backwards it is simply known. So whoever uses this writes the last field first, and of a
 * field its content, then its length, then its tag.
 */

const SHORT_TEXT = 48;

/** A buffer that is filled from its end. */
export class WireWriter {
  #bytes: Buffer;
  /** Where what was written begins. */
  position: number;

  constructor(capacity = 64 * 1024) {
    this.#bytes = Buffer.allocUnsafe(capacity);
    this.position = capacity;
  }

  /** Forgets what was written. */
  reset(): void {
    this.position = this.#bytes.length;
  }

  /** How much was written. A difference of two is the length of what was written between. */
  get written(): number {
    return this.#bytes.length - this.position;
  }

  /** Takes back the last bytes that were written. */
  forget(count: number): void {
    this.position += count;
  }

  /** Copies what was written to a place of another buffer. */
  copyTo(target: Buffer, at: number): void {
    this.#bytes.copy(target, at, this.position);
  }

  /** Writes a non-negative integer below 2^53. */
  varint(value: number): void {
    if (this.position < 10) this.#grow(10);
    if (value < 0x80) {
      this.#bytes[--this.position] = value;
      return;
    }
    const start = (this.position -= varintLength(value));
    let at = start;
    let rest = value;
    while (rest > 0x7f_ff_ff_ff) {
      this.#bytes[at++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    while (rest > 0x7f) {
      this.#bytes[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[at] = rest;
  }

  /** Writes an integer of 64 bits, signed or not. */
  varint64(value: bigint): void {
    if (value >= 0n && value <= 9007199254740991n) return this.varint(Number(value));
    const groups: number[] = [];
    let rest = BigInt.asUintN(64, value);
    for (; rest > 0x7fn; rest >>= 7n) groups.push(Number(rest & 0x7fn) | 0x80);
    groups.push(Number(rest));
    this.raw(groups);
  }

  /** Writes UTF-8, and before it its length. Raises `TypeError` for a text that is not well-formed. */
  text(text: string): void {
    const length = text.length;
    if (length < SHORT_TEXT && this.#shortText(text, length)) return this.varint(length);
    const size = Buffer.byteLength(text);
    if (this.position < size) this.#grow(size);
    this.position -= size;
    if (size === length) this.#bytes.write(text, this.position, "latin1");
    else {
      if (!text.isWellFormed()) throw new TypeError("a text is not well-formed");
      this.#bytes.write(text, this.position, "utf8");
    }
    this.varint(size);
  }

  /** Writes bytes, and before them their length. */
  bytes(bytes: Uint8Array): void {
    this.raw(bytes);
    this.varint(bytes.length);
  }

  /** Writes bytes as they are. */
  raw(bytes: ArrayLike<number>): void {
    if (this.position < bytes.length) this.#grow(bytes.length);
    this.position -= bytes.length;
    this.#bytes.set(bytes, this.position);
  }

  /** Writes four bytes, little-endian. */
  fixed32(value: number): void {
    if (this.position < 4) this.#grow(4);
    this.position = this.#bytes.writeUInt32LE(value >>> 0, this.position - 4) - 4;
  }

  /** Writes eight bytes, little-endian. */
  fixed64(value: bigint): void {
    if (this.position < 8) this.#grow(8);
    this.position = this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.position - 8) - 8;
  }

  /** Writes a float of four bytes. */
  float(value: number): void {
    if (this.position < 4) this.#grow(4);
    this.position = this.#bytes.writeFloatLE(value, this.position - 4) - 4;
  }

  /** Writes a float of eight bytes. */
  double(value: number): void {
    if (this.position < 8) this.#grow(8);
    this.position = this.#bytes.writeDoubleLE(value, this.position - 8) - 8;
  }

  /** Writes a short text, if it is ASCII: a call into the runtime costs more than these few steps. */
  #shortText(text: string, length: number): boolean {
    if (this.position < length) this.#grow(length);
    const bytes = this.#bytes;
    let at = this.position;
    for (let index = length - 1; index >= 0; index -= 1) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return false;
      bytes[--at] = code;
    }
    this.position = at;
    return true;
  }

  #grow(needed: number): void {
    const written = this.written;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, written + needed + 64));
    this.#bytes.copy(larger, larger.length - written, this.position);
    this.#bytes = larger;
    this.position = larger.length - written;
  }
}

function varintLength(value: number): number {
  let length = 1;
  for (let limit = 0x80; value >= limit && length < 8; limit *= 0x80) length += 1;
  return length;
}
