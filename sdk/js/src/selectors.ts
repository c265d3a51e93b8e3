/** Selectors: which events a subscription is for. */

import { fieldInvalid } from "./errors.js";
import { parsePattern } from "./patterns.js";

/** The value of an option. One that is absent or an empty text is left out. */
export type OptionValue = string | number | bigint | boolean | null | undefined;

/** Selects events by type, and by options that their schema declares. Made by `event`. */
export class Selector {
  /** A pattern of event URIs. */
  readonly pattern: string;
  /** Every option must equal the event's. */
  readonly options: Readonly<Record<string, string>>;

  /** @internal */
  constructor(pattern: string, options: Readonly<Record<string, string>>) {
    this.pattern = pattern;
    this.options = options;
  }
}

/**
 * Makes a selector: `event("community.certes.dev/github/1/issues", {repo: "meetly/app"})`.
 *
 * Raises `MALFORMED_PATTERN`, `UNMATCHABLE_PATTERN`, or `FIELD_INVALID` for an option that is no text, whole number or
 * boolean.
 */
export function event<Options extends object = Record<string, OptionValue>>(pattern: string, options?: Options | null): Selector {
  const found: Record<string, string> = {};
  for (const [name, value] of Object.entries(options ?? {})) {
    if (name.startsWith("$") || value === undefined || value === null || value === "") continue;
    found[name] = optionText(name, value);
  }
  return new Selector(parsePattern(pattern).text, found);
}

/** Leaves out selectors that were listed before. */
export function distinct(selectors: readonly Selector[]): Selector[] {
  const found = new Map(
    selectors.map((selector) => [JSON.stringify([selector.pattern, Object.entries(selector.options).sort()]), selector]),
  );
  return [...found.values()];
}

function optionText(name: string, value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (typeof value === "number" && Number.isSafeInteger(value)) return String(value);
  throw fieldInvalid(name, "is neither a text nor a whole number nor a boolean");
}
