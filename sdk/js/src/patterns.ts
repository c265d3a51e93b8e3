/**
 * Patterns of event types, and which of several decides.
 *
 * `*` stands for exactly one whole segment of the namespace, version or name, a last `**` for one or more. A wildcard never
 * stands for the name of a system event, which begins with `_`. A pattern is *malformed* if it breaks the rules for
 * wildcards, and *unmatchable* if it keeps them and yet no event URI could match it: a handler that stays silent for ever
 * helps nobody.
 */

import { eventTypeFault, type Fault, malformed, outlineFault, segmentsOf } from "./uris.js";

/** A pattern that is well-formed and can match something. */
export interface Pattern {
  /** The canonical spelling: the domain is in lower case. */
  readonly text: string;
  readonly segments: readonly string[];
}

/** Reads a pattern. Raises `MALFORMED_PATTERN` or `UNMATCHABLE_PATTERN`, with `position` and `problem` in its metadata. */
export function parsePattern(text: string): Pattern {
  const fault = patternFault(text);
  if (fault !== undefined) throw malformed("MALFORMED_PATTERN", "pattern", text, fault);
  const unmatchable = unmatchableFault(text);
  if (unmatchable !== undefined) throw malformed("UNMATCHABLE_PATTERN", "pattern", text, unmatchable);
  const [domain, ...rest] = text.split("/") as [string, ...string[]];
  const segments = [domain.toLowerCase(), ...rest];
  return { text: segments.join("/"), segments };
}

/** Whether a pattern selects an event type, given in its canonical spelling. */
export function matches(pattern: Pattern, type: string): boolean {
  const wanted = pattern.segments;
  const found = type.split("/");
  const last = wanted.at(-1)!;
  if (last.startsWith("*") && found.at(-1)!.startsWith("_")) return false;
  const open = last === "**";
  const fixed = open ? wanted.length - 1 : wanted.length;
  if (open ? found.length <= fixed : found.length !== fixed) return false;
  for (let index = 0; index < fixed; index += 1) {
    if (wanted[index] !== "*" && wanted[index] !== found[index]) return false;
  }
  return true;
}

/**
 * Compares how specific two patterns are: above 0 if the first is more so. More specific is, in this order: to have no
 * `**`, to spell more segments, to have more `*`.
 */
export function compareSpecificity(one: Pattern, other: Pattern): number {
  const [a, b] = [weigh(one), weigh(other)];
  return a.closed - b.closed || a.spelled - b.spelled || a.stars - b.stars;
}

function weigh({ segments }: Pattern): { closed: number; spelled: number; stars: number } {
  return {
    closed: segments.at(-1) === "**" ? 0 : 1,
    spelled: segments.filter((segment) => !segment.startsWith("*")).length,
    stars: segments.filter((segment) => segment === "*").length,
  };
}

function patternFault(text: string): Fault | undefined {
  const segments = segmentsOf(text);
  const outline = outlineFault(text, segments);
  if (outline !== undefined) return outline;
  for (const segment of segments.slice(1)) {
    if (segment.text === "*" || !segment.text.includes("*")) continue;
    if (segment.text !== "**") {
      return { index: segment.index + segment.text.indexOf("*"), problem: "'*' stands for a whole segment only" };
    }
    if (segment !== segments.at(-1)) return { index: segment.index, problem: "'**' can only be the last segment" };
  }
  return undefined;
}

/**
 * Finds why no event URI can match, by spelling out the shortest that might: `1` can stand wherever `*` can, and is as
 * long.
 */
function unmatchableFault(text: string): Fault | undefined {
  const open = text.endsWith("/**");
  const spelled = (open ? text.slice(0, -"/**".length) : text).replaceAll("*", "1");
  if (!open) return eventTypeFault(spelled);
  if (!spelled.includes("/")) return undefined;
  const fault = eventTypeFault(`${spelled}/1/x`);
  if (fault === undefined || eventTypeFault(`${spelled}/x`) === undefined) return undefined;
  return { index: Math.min(fault.index, text.length), problem: fault.problem };
}
