/** The vectors that all SDKs share, and what tests of them need. */

import { readFileSync } from "node:fs";

/** Reads one file of vectors. */
export function vectors(name) {
  return JSON.parse(readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), "utf8"));
}

/** What a call raises. */
export function raised(call) {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was raised");
}

/** What a promise rejects with. */
export async function rejected(promise) {
  const outcome = await promise.then(
    (value) => ({ value }),
    (error) => ({ error }),
  );
  if (!("error" in outcome)) throw new Error(`it was fulfilled, with ${JSON.stringify(outcome.value)}`);
  return outcome.error;
}
