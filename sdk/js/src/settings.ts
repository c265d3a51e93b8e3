/** What `init` makes of its arguments and of the environment. No I/O is done here; what is malformed is refused. */

import { fieldInvalid } from "./errors.js";
import { type Logger, warnings } from "./logger.js";
import { readKey } from "./signatures.js";
import { authority, type Gateway, parseGateway, readAuthority } from "./uris.js";

/** The settings of a client. One that is left out is taken from its environment variable, where that is not empty. */
export interface Options {
  /** Sent as `authorization: Bearer …`. `CERTES_TOKEN`. */
  token?: string | undefined;
  /** The application; names its subscription. Required for subscriptions. `CERTES_APP`. */
  app?: string | undefined;
  /** Where the broker shall POST deliveries; without it they come by stream. `CERTES_CALLBACK_URL`. */
  callbackUrl?: string | undefined;
  /** Whose events the application gets; `default` by default. `CERTES_SUBSCRIBER`. */
  subscriber?: string | undefined;
  /** The `source` of the events that it publishes; `apps/{app}` by default. `CERTES_SOURCE`. */
  source?: string | undefined;
  /**
   * The application's release number, 0 or more: an old replica cannot undo a newer one's subscriptions.
   * `CERTES_GENERATION`.
   */
  generation?: number | bigint | undefined;
  /** Further keys that verify webhooks, `whsec_…` or `whpk_…`. `CERTES_WEBHOOK_KEYS`, parted by spaces. */
  webhookKeys?: readonly string[] | undefined;
  /** A PEM file of the authorities to trust instead of the system's. `CERTES_CA_FILE`. */
  caFile?: string | undefined;
  /**
   * A PEM file of a certificate, with the chain that vouches for it, to be shown to a gateway that asks for one. It and its
   * key are read again whenever the client connects, so that one that was renewed is shown from then on.
   * `CERTES_CERTIFICATE`.
   */
  certificate?: string | undefined;
  /** The PEM file of that certificate's key, without a passphrase; may be the same file. `CERTES_CERTIFICATE_KEY`. */
  certificateKey?: string | undefined;
  /** Other places for gateways, `events.meetly.com=127.0.0.1:9600`, several parted by commas. `CERTES_RESOLVE`. */
  resolve?: string | undefined;
  /** How many handlers run at once; 64 by default. */
  concurrency?: number | undefined;
  /** How many deliveries may be unsettled on a stream, 1 to 100,000; 1,000 by default. */
  maxOutstanding?: number | undefined;
  /** Where warnings go; `process.emitWarning` by default. */
  logger?: Logger | undefined;
}

/** Settings that hold. */
export interface Settings {
  readonly uri: string;
  /** Where the gateway is looked for: `resolve` may have another place for it. */
  readonly gateway: Gateway;
  readonly token: string | undefined;
  readonly app: string | undefined;
  readonly callbackUrl: string | undefined;
  readonly subscriber: string;
  readonly source: string | undefined;
  readonly generation: bigint | undefined;
  readonly webhookKeys: readonly string[];
  readonly caFile: string | undefined;
  readonly certificate: string | undefined;
  readonly certificateKey: string | undefined;
  readonly concurrency: number;
  readonly maxOutstanding: number;
  readonly logger: Logger;
}

const DEFAULT_SUBSCRIBER = "default";
const DEFAULT_CONCURRENCY = 64;
const DEFAULT_OUTSTANDING = 1000;
const MOST_OUTSTANDING = 100_000;
const MOST_SOURCE_BYTES = 512;
const GREATEST_GENERATION = 2n ** 63n - 1n;

/** Reads settings. Raises `MALFORMED_URI` with the position, or `FIELD_INVALID` with the setting's name as `field`. */
export function readSettings(uri: string, options: Options, environment: Readonly<Record<string, string | undefined>>): Settings {
  const text = (argument: string | undefined, variable: string): string | undefined =>
    argument ?? (environment[variable] || undefined);
  if (typeof uri !== "string") throw fieldInvalid("uri", "is no text");
  const named = parseGateway(uri);
  const app = checked(text(options.app, "CERTES_APP"), "app", checkId);
  const file = (argument: string | undefined, variable: string, field: string): string | undefined =>
    checked(text(argument, variable), field, () => undefined);
  const certificate = file(options.certificate, "CERTES_CERTIFICATE", "certificate");
  const certificateKey = file(options.certificateKey, "CERTES_CERTIFICATE_KEY", "certificate_key");
  checkPair(certificate, certificateKey);
  return {
    uri,
    gateway: placeOf(named, text(options.resolve, "CERTES_RESOLVE")),
    token: checked(text(options.token, "CERTES_TOKEN"), "token", checkToken),
    app,
    callbackUrl: checked(text(options.callbackUrl, "CERTES_CALLBACK_URL"), "callback_url", checkCallback),
    subscriber: checked(text(options.subscriber, "CERTES_SUBSCRIBER"), "subscriber", checkId) ?? DEFAULT_SUBSCRIBER,
    source: checked(text(options.source, "CERTES_SOURCE"), "source", checkSource) ?? (app && `apps/${app}`),
    generation: readGeneration(options.generation ?? text(undefined, "CERTES_GENERATION")),
    webhookKeys: readKeys(options.webhookKeys ?? text(undefined, "CERTES_WEBHOOK_KEYS")?.trim().split(/\s+/u) ?? []),
    caFile: file(options.caFile, "CERTES_CA_FILE", "ca_file"),
    certificate,
    certificateKey,
    concurrency: readCount(options.concurrency ?? DEFAULT_CONCURRENCY, "concurrency", Number.MAX_SAFE_INTEGER),
    maxOutstanding: readCount(options.maxOutstanding ?? DEFAULT_OUTSTANDING, "max_outstanding", MOST_OUTSTANDING),
    logger: options.logger ?? warnings,
  };
}

/** The name of an application's subscription, of the one that is called `name` where that is given. */
export function subscriptionName(subscriber: string, app: string, name?: string | undefined): string {
  return `subscribers/${subscriber}/subscriptions/${name === undefined ? app : `${app}:${name}`}`;
}

/** Says what keeps a text from being an id of a subscriber, an application or a subscription; nothing where nothing does. */
export function checkId(text: string): string | undefined {
  if (!/^[A-Za-z0-9._~:@-]{1,128}$/u.test(text)) return "is not 1 to 128 characters of letters, digits and . _ ~ - : @";
  if (text === "-" || text === "." || text === "..") return "is '-', '.' or '..', which are no ids";
  return undefined;
}

function checked(text: string | undefined, field: string, check: (text: string) => string | undefined): string | undefined {
  if (text === undefined) return undefined;
  if (typeof text !== "string") throw fieldInvalid(field, "is no text");
  const problem = check(text);
  if (problem !== undefined) throw fieldInvalid(field, problem);
  return text;
}

function checkPair(certificate: string | undefined, key: string | undefined): void {
  if (certificate !== undefined && key === undefined) {
    throw fieldInvalid("certificate_key", "is missing: the file of the certificate's key, which may be that of the certificate");
  }
  if (certificate === undefined && key !== undefined) {
    throw fieldInvalid("certificate", "is missing: the file of the certificate whose key is given");
  }
}

function checkToken(text: string): string | undefined {
  return /^[\x21-\x7e]+$/u.test(text) ? undefined : "has a character that a header cannot carry, or none at all";
}

function checkSource(text: string): string | undefined {
  const bytes = Buffer.byteLength(text);
  return bytes >= 1 && bytes <= MOST_SOURCE_BYTES ? undefined : `is not 1 to ${MOST_SOURCE_BYTES} bytes`;
}

function checkCallback(text: string): string | undefined {
  const problem = "is no URL that begins with http:// or https:// and has a host";
  // Not left to URL alone, which finds a host in `https:///hook`.
  if (!/^https?:\/\/[^/?#]/iu.test(text) || !URL.canParse(text)) return problem;
  return new URL(text).hostname === "" ? problem : undefined;
}

function readGeneration(value: number | bigint | string | undefined): bigint | undefined {
  if (value === undefined) return undefined;
  const text = String(value);
  if (!/^[0-9]+$/u.test(text) || BigInt(text) > GREATEST_GENERATION) {
    throw fieldInvalid("generation", "is no whole number from 0 to 2^63 − 1");
  }
  return BigInt(text);
}

function readKeys(keys: readonly string[]): readonly string[] {
  for (const key of keys) {
    if (typeof key !== "string" || readKey(key) === undefined) {
      throw fieldInvalid("webhook_keys", "has a key that is neither 'whsec_' nor 'whpk_' and base64 of the right length");
    }
  }
  return [...keys];
}

function readCount(count: number, field: string, most: number): number {
  if (!Number.isInteger(count) || count < 1 || count > most) throw fieldInvalid(field, `is no whole number from 1 to ${most}`);
  return count;
}

/** The place of a gateway by `host[:port]=host[:port], …`. Places are not followed twice. */
function placeOf(gateway: Gateway, places: string | undefined): Gateway {
  let found = gateway;
  for (const entry of places === undefined ? [] : places.split(",")) {
    const [from, to, ...rest] = entry.split("=").map((side) => side.trim());
    if (from === undefined || to === undefined || rest.length > 0) {
      throw fieldInvalid("resolve", `has an entry that is not host[:port]=host[:port]: ${JSON.stringify(entry)}`);
    }
    const [named, place] = [readPlace(from), readPlace(to)];
    if (found === gateway && authority(named) === authority(gateway)) found = place;
  }
  return found;
}

function readPlace(text: string): Gateway {
  const read = readAuthority(text, 0);
  if ("problem" in read) throw fieldInvalid("resolve", `has a place that is none, ${JSON.stringify(text)}: ${read.problem}`);
  return read;
}
