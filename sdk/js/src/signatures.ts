/**
 * Verifies webhooks as Standard Webhooks says, https://www.standardwebhooks.com, "Signature scheme".
 *
 * What is signed is `<webhook-id>.<webhook-timestamp>.<body>`, byte for byte as it came. Signatures are parted by spaces,
 * each with its version: `v1` is an HMAC-SHA256 by a secret `whsec_…`, `v1a` an ed25519 signature by the private half of
 * `whpk_…`. Versions that are not known are passed over. Every key and every signature is tried, and a comparison takes the
 * same time wherever two differ. No key is in an error.
 */

import { createHmac, createPublicKey, type KeyObject, timingSafeEqual, verify } from "node:crypto";
import { CertesError } from "./errors.js";

/** How far a timestamp may be off, in seconds. */
export const TOLERANCE = 300;
const MOST_SIGNATURES = 8;
const LONGEST_TIMESTAMP = 15;
/** The DER of an ed25519 public key before its 32 bytes (RFC 8410, section 4). */
const DER_PREFIX = Buffer.from("302a300506032b6570032100", "hex");

/** A key that verifies one of the versions. */
export type WebhookKey = { readonly version: "v1"; readonly secret: Buffer } | { readonly version: "v1a"; readonly key: KeyObject };

/** A request's headers as pairs, in the order in which they came; names in any case. */
export type HeaderPairs = readonly (readonly [name: string, value: string])[];

/** Reads `whsec_…` or `whpk_…`; nothing if a text is neither. The padding of base64 may be left out. */
export function readKey(text: string): WebhookKey | undefined {
  const bytes = readBase64(text.slice(text.indexOf("_") + 1));
  if (bytes === undefined) return undefined;
  if (text.startsWith("whsec_")) {
    return bytes.length >= 24 && bytes.length <= 64 ? { version: "v1", secret: bytes } : undefined;
  }
  if (!text.startsWith("whpk_") || bytes.length !== 32) return undefined;
  return { version: "v1a", key: createPublicKey({ key: Buffer.concat([DER_PREFIX, bytes]), format: "der", type: "spki" }) };
}

/**
 * Proves that a request was sent by somebody who knows one of the keys. `now` is seconds since the epoch.
 *
 * Raises `SIGNATURE_INVALID` with the `problem` in its metadata: `HEADER_MISSING`, `HEADER_MALFORMED`, `TIMESTAMP_TOO_OLD`,
 * `TIMESTAMP_TOO_NEW` or `NO_MATCH`.
 */
export function verifyWebhook(keys: readonly WebhookKey[], headers: HeaderPairs, body: Uint8Array, now: number): void {
  const id = onlyValue(headers, "webhook-id");
  const timestamp = onlyValue(headers, "webhook-timestamp");
  const signatures = onlyValue(headers, "webhook-signature").split(" ");
  checkTime(timestamp, now);
  const symmetric = signatures.filter((signature) => signature.startsWith("v1,"));
  const asymmetric = signatures.filter((signature) => signature.startsWith("v1a,"));
  const count = symmetric.length + asymmetric.length;
  if (count === 0) throw malformedHeader("webhook-signature has no signature that begins with 'v1,' or 'v1a,'");
  if (count > MOST_SIGNATURES) {
    throw malformedHeader(`webhook-signature has ${count} signatures; ${MOST_SIGNATURES} are allowed`);
  }
  const content = Buffer.concat([Buffer.from(`${id}.${timestamp}.`, "latin1"), body]);
  let genuine = false;
  for (const key of keys) {
    if (key.version === "v1") genuine = isSignedBySecret(key.secret, symmetric, content) || genuine;
    else genuine = isSignedByKey(key.key, asymmetric, content) || genuine;
  }
  if (!genuine) throw refused("NO_MATCH", "no signature in webhook-signature was made with a known key");
}

function isSignedBySecret(secret: Buffer, claimed: readonly string[], content: Buffer): boolean {
  if (claimed.length === 0) return false;
  const genuine = Buffer.from(`v1,${createHmac("sha256", secret).update(content).digest("base64")}`);
  let found = false;
  for (const signature of claimed) {
    const bytes = Buffer.from(signature, "latin1");
    if (bytes.length === genuine.length && timingSafeEqual(bytes, genuine)) found = true;
  }
  return found;
}

function isSignedByKey(key: KeyObject, claimed: readonly string[], content: Buffer): boolean {
  // Nothing here is secret, so nothing need take the same time.
  return claimed.some((signature) => {
    const bytes = readBase64(signature.slice("v1a,".length), true);
    return bytes !== undefined && bytes.length === 64 && verify(null, content, key, bytes);
  });
}

function checkTime(timestamp: string, now: number): void {
  if (!/^[0-9]+$/u.test(timestamp) || timestamp.length > LONGEST_TIMESTAMP) {
    throw malformedHeader("webhook-timestamp is no number of whole seconds");
  }
  const age = now - Number(timestamp);
  if (age > TOLERANCE) throw refused("TIMESTAMP_TOO_OLD", `webhook-timestamp is ${Math.round(age)} s old`);
  if (-age > TOLERANCE) throw refused("TIMESTAMP_TOO_NEW", `webhook-timestamp is ${Math.round(-age)} s in the future`);
}

/** The value of a header that came once. Nobody knows which of two another reader would have taken. */
function onlyValue(headers: HeaderPairs, name: string): string {
  const values = headers.filter(([found]) => found.toLowerCase() === name).map(([, value]) => value);
  const [value = "", ...others] = values;
  if (others.length > 0) throw malformedHeader(`${name} came more than once`);
  if (value === "") throw refused("HEADER_MISSING", `${name} is missing`);
  return value;
}

/** Strictly, since `Buffer` passes over whatever is no base64. */
function readBase64(text: string, padded = false): Buffer | undefined {
  const digits = padded ? text : text.replace(/={0,2}$/u, "");
  if (!/^[A-Za-z0-9+/]+={0,2}$/u.test(digits)) return undefined;
  if (padded ? text.length % 4 !== 0 : digits.length % 4 === 1) return undefined;
  if (!padded && digits.length !== text.length && text.length % 4 !== 0) return undefined;
  return Buffer.from(digits, "base64");
}

function malformedHeader(problem: string): CertesError {
  return refused("HEADER_MALFORMED", problem);
}

function refused(problem: string, message: string): CertesError {
  return new CertesError("UNAUTHENTICATED", "SIGNATURE_INVALID", `the webhook's signature is not accepted: ${message}`, {
    metadata: { problem },
  });
}
