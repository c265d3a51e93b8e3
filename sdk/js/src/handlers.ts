/** Handlers, and which of them run for an event. */

import type { Message } from "@bufbuild/protobuf";
import type { EventMeta } from "./event_meta.js";
import { compareSpecificity, matches, parsePattern, type Pattern } from "./patterns.js";

/**
 * Handles an event. `raw` is the decoded message, as generated code has it; of an event without a schema it is the
 * `certes.v1.RawContent`. What it returns is waited for; what it raises makes the event be delivered again.
 */
export type Handler = (raw: Message, meta: EventMeta) => unknown;

const MOST_TYPES = 10_000;

/** The handlers of an application, in the order of their registration. */
export class Handlers {
  readonly #entries: { pattern: Pattern; handler: Handler }[] = [];
  /** What was decided for event types that were met: to look it up costs less than to match. */
  readonly #decided = new Map<string, readonly Handler[]>();

  /** Whether nobody handles anything. */
  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** Adds a handler. Raises `MALFORMED_PATTERN` or `UNMATCHABLE_PATTERN`. */
  add(pattern: string, handler: Handler): void {
    this.#entries.push({ pattern: parsePattern(pattern), handler });
    this.#decided.clear();
  }

  /**
   * The handlers that run for an event, in their order: those of the most specific pattern that matches, of all such
   * patterns where several are equally specific.
   */
  for(type: string): readonly Handler[] {
    let decided = this.#decided.get(type);
    if (decided === undefined) {
      if (this.#decided.size >= MOST_TYPES) this.#decided.clear();
      decided = this.#decide(type);
      this.#decided.set(type, decided);
    }
    return decided;
  }

  #decide(type: string): readonly Handler[] {
    const matching = this.#entries.filter(({ pattern }) => matches(pattern, type));
    return matching
      .filter(({ pattern }) => matching.every((other) => compareSpecificity(pattern, other.pattern) >= 0))
      .map(({ handler }) => handler);
  }
}
