/**
 * The URIs of gateways and of events.
 *
 * What is malformed is refused, never guessed. A position counts characters (code points) from 0 and points at the first that
 * cannot stand where it does; at the end of the text if something is missing there.
 */

import { isIPv4, isIPv6 } from "node:net";
import { CertesError } from "./errors.js";

export const MAXIMUM_LENGTH = 2048;
export const DEFAULT_PORT = 9600;
const SCHEME = "events://";
const MAXIMUM_NAMESPACE = 128;
const MAXIMUM_VERSION = 2 ** 31 - 1;
const MAXIMUM_DOMAIN = 253;
const MAXIMUM_LABEL = 63;
const FEWEST_SEGMENTS = 4;
const SHOWN = 120;

/** Where a gateway is: a name or an address, without brackets, and its HTTP port. */
export interface Gateway {
  readonly host: string;
  readonly port: number;
}

/** What an event URI names. */
export interface EventType {
  readonly domain: string;
  readonly namespace: string;
  readonly version: number;
  readonly name: string;
}

/** What is wrong with a text, and at which index of its UTF-16. */
export interface Fault {
  readonly index: number;
  readonly problem: string;
}

/** A part of a text, and the index at which it begins. */
export interface Segment {
  readonly index: number;
  readonly text: string;
}

/** `host:port`, with an IPv6 address in brackets. */
export function authority({ host, port }: Gateway): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Reads `events://host[:port]`. Raises `MALFORMED_URI`, with `position` and `problem` in its metadata. */
export function parseGateway(text: string): Gateway {
  const read = readGateway(text);
  if ("problem" in read) throw malformed("MALFORMED_URI", "gateway URI", text, read);
  return read;
}

/** Reads an event URI. Raises `MALFORMED_URI`, with `position` and `problem` in its metadata. */
export function parseEventType(text: string): EventType {
  const fault = eventTypeFault(text);
  if (fault !== undefined) throw malformed("MALFORMED_URI", "event URI", text, fault);
  const [domain, ...rest] = text.split("/") as [string, ...string[]];
  const [version, name] = rest.splice(-2) as [string, string];
  return { domain: domain.toLowerCase(), namespace: rest.join("/"), version: Number(version), name };
}

/** The canonical spelling of an event type. */
export function eventTypeText({ domain, namespace, version, name }: EventType): string {
  return `${domain}/${namespace}/${version}/${name}`;
}

/** The error for a text that is malformed. */
export function malformed(reason: string, what: string, text: string, fault: Fault): CertesError {
  const position = [...text.slice(0, fault.index)].length;
  const shown = text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
  const verdict = reason === "UNMATCHABLE_PATTERN" ? "can match no event URI" : "is malformed";
  return new CertesError(
    "INVALID_ARGUMENT",
    reason,
    `${what} ${JSON.stringify(shown)} ${verdict}, at character ${position}: ${fault.problem}`,
    { metadata: { position: String(position), problem: fault.problem, text: shown } },
  );
}

/** Parts a text at its slashes. */
export function segmentsOf(text: string): [Segment, ...Segment[]] {
  let index = 0;
  return text.split("/").map((segment) => {
    const found = { index, text: segment };
    index += segment.length + 1;
    return found;
  }) as [Segment, ...Segment[]];
}

/** What is wrong with an event URI. */
export function eventTypeFault(text: string): Fault | undefined {
  const segments = segmentsOf(text);
  const fault = outlineFault(text, segments);
  if (fault !== undefined) return fault;
  if (segments.length < FEWEST_SEGMENTS) {
    const problem = "a domain, a namespace, a version and a name are wanted here, parted by '/' ('_' is the default namespace)";
    return { index: text.length, problem };
  }
  return placesFault(segments);
}

/** What is wrong with the whole of a text or with its domain, be it an event URI or a pattern. */
export function outlineFault(text: string, segments: [Segment, ...Segment[]]): Fault | undefined {
  return (
    lengthFault(text) ??
    domainFault(segments[0]) ??
    segments.filter((segment) => segment.text === "").map(({ index }) => ({ index, problem: "a segment is empty" }))[0]
  );
}

function lengthFault(text: string): Fault | undefined {
  const characters = [...text];
  if (characters.length <= MAXIMUM_LENGTH) return undefined;
  const index = characters.slice(0, MAXIMUM_LENGTH).join("").length;
  return { index, problem: `at most ${MAXIMUM_LENGTH} characters are allowed` };
}

function placesFault(segments: readonly Segment[]): Fault | undefined {
  const namespace = segments.slice(1, -2);
  const [version, name] = segments.slice(-2) as [Segment, Segment];
  for (const segment of namespace.slice(0, MAXIMUM_NAMESPACE)) {
    const fault = wordFault(segment);
    if (fault !== undefined) return fault;
  }
  const tooMany = namespace[MAXIMUM_NAMESPACE];
  if (tooMany !== undefined) {
    return { index: tooMany.index, problem: `a namespace has at most ${MAXIMUM_NAMESPACE} segments` };
  }
  return versionFault(version) ?? wordFault(name);
}

function wordFault(segment: Segment): Fault | undefined {
  return strangerFault(segment, /[^a-z0-9_]/u, "only a-z, 0-9 and '_' can stand here, not");
}

function versionFault(segment: Segment): Fault | undefined {
  const stranger = strangerFault(segment, /[^0-9]/u, "the segment before the name is the version, a positive integer, not");
  if (stranger !== undefined) return stranger;
  if (segment.text.startsWith("0")) {
    return { index: segment.index, problem: "a version is a positive integer without leading zeros" };
  }
  if (Number(segment.text) > MAXIMUM_VERSION) {
    return { index: segment.index, problem: `a version is at most ${MAXIMUM_VERSION}` };
  }
  return undefined;
}

function strangerFault(segment: Segment, stranger: RegExp, problem: string): Fault | undefined {
  const found = stranger.exec(segment.text);
  return found === null ? undefined : { index: segment.index + found.index, problem: `${problem} ${JSON.stringify(found[0])}` };
}

/** What keeps a text from being a DNS name as RFC 1123, section 2.1, has it. */
export function domainFault(segment: Segment): Fault | undefined {
  let index = segment.index;
  for (const label of segment.text.split(".")) {
    const fault = labelFault({ index, text: label });
    if (fault !== undefined) return fault;
    index += label.length + 1;
  }
  if (segment.text.length > MAXIMUM_DOMAIN) {
    return { index: segment.index + MAXIMUM_DOMAIN, problem: `a domain has at most ${MAXIMUM_DOMAIN} characters` };
  }
  const last = segment.text.slice(segment.text.lastIndexOf(".") + 1);
  if (/^[0-9]+$/u.test(last)) {
    // "a valid host name can never have the dotted-decimal form #.#.#.#" (RFC 1123): such a text is an address.
    return { index: index - 1 - last.length, problem: "a domain is a DNS name, whose last label is no number" };
  }
  return undefined;
}

function labelFault(label: Segment): Fault | undefined {
  const stranger = strangerFault(label, /[^A-Za-z0-9-]/u, "a domain has letters, digits, '-' and '.' only, not");
  if (stranger !== undefined) return stranger;
  if (label.text === "") return { index: label.index, problem: "the domain, or a label of it, is empty" };
  if (label.text.length > MAXIMUM_LABEL) {
    return { index: label.index + MAXIMUM_LABEL, problem: `a label of a domain has at most ${MAXIMUM_LABEL} characters` };
  }
  if (label.text.startsWith("-")) return { index: label.index, problem: "a label of a domain does not begin with '-'" };
  if (label.text.endsWith("-")) {
    return { index: label.index + label.text.length - 1, problem: "a label of a domain does not end with '-'" };
  }
  return undefined;
}

function readGateway(text: string): Gateway | Fault {
  // "An implementation should accept uppercase letters as equivalent to lowercase in scheme names" (RFC 3986, 3.1).
  if (text.slice(0, SCHEME.length).toLowerCase() !== SCHEME) {
    return { index: 0, problem: `a gateway URI begins with '${SCHEME}'` };
  }
  const tooLong = lengthFault(text);
  if (tooLong !== undefined) return tooLong;
  return readAuthority(text, SCHEME.length);
}

/** Reads `host[:port]` from an index of a text to its end. */
export function readAuthority(text: string, start: number): Gateway | Fault {
  let end: number;
  let host: string;
  if (text.startsWith("[", start)) {
    end = text.indexOf("]", start) + 1;
    if (end === 0) return { index: text.length, problem: "']' is missing after the IPv6 address" };
    const address = text.slice(start + 1, end - 1);
    if (!isIPv6(address) || address.includes("%")) {
      return { index: start + 1, problem: "no IPv6 address stands between the brackets" };
    }
    host = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  } else {
    const colon = text.indexOf(":", start);
    end = colon < 0 ? text.length : colon;
    const segment = { index: start, text: text.slice(start, end) };
    if (segment.text === "") return { index: start, problem: "the host is missing" };
    const fault = isIPv4(segment.text) ? undefined : domainFault(segment);
    if (fault !== undefined) return fault;
    host = segment.text.toLowerCase();
  }
  if (end === text.length) return { host, port: DEFAULT_PORT };
  if (text[end] !== ":") return { index: end, problem: "only ':' and a port can follow the host" };
  return readPort(host, { index: end + 1, text: text.slice(end + 1) });
}

function readPort(host: string, segment: Segment): Gateway | Fault {
  const stranger = strangerFault(segment, /[^0-9]/u, "a port is a number, and nothing follows it; found");
  if (stranger !== undefined) return stranger;
  if (!/^[1-9][0-9]{0,4}$/u.test(segment.text) || Number(segment.text) > 65_535) {
    return { index: segment.index, problem: "a port is a number from 1 to 65535, without leading zeros" };
  }
  return { host, port: Number(segment.text) };
}
