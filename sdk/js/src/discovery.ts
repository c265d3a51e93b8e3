/**
 * Finds where a gateway speaks gRPC: asks for `/.well-known/certes` and judges the answer.
 *
 * What was found over TLS is spoken to over TLS, and what was found on loopback without it is on loopback too, so that no
 * answer can send a token over the network in clear. A name is judged by all its addresses, and then the address is used,
 * not the name again: a name that would have another address the second time gains nothing.
 */

import { lookup } from "node:dns/promises";
import { request as requestPlain, type IncomingMessage, type RequestOptions } from "node:http";
import { request as requestTls } from "node:https";
import { BlockList, isIP } from "node:net";
import { CertesError } from "./errors.js";
import type { TlsFiles } from "./tls_files.js";
import { authority, type Gateway, readAuthority } from "./uris.js";

const PROTOCOL = "certes.v1";
const TIMEOUT = 5000;
const MOST_BYTES = 64 * 1024;

/** Where gRPC is. */
export interface Place {
  readonly address: string;
  readonly tls: boolean;
  /** The broker's own, empty where it does not say. */
  readonly domain: string;
  /** Whether clients are turned away that show no certificate. */
  readonly asksCertificate: boolean;
}

/** Finds out the addresses of a name. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** How the network is asked, which tests may have otherwise. */
export interface Asking {
  readonly resolve?: Resolve;
  /** Where the gateway is connected to, wherever its name is said to be. */
  readonly connectTo?: string;
  /** How long it is waited for, in milliseconds. */
  readonly timeout?: number;
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");
// "IPv4-mapped IPv6 addresses" (RFC 4291, 2.5.5.2): the same loopback by another name.
loopback.addSubnet("::ffff:127.0.0.0", 104, "ipv6");

/** Whether a text is a loopback address. */
export function isLoopbackAddress(host: string): boolean {
  const version = isIP(host);
  return version !== 0 && loopback.check(host, version === 4 ? "ipv4" : "ipv6");
}

/** Whether a host is loopback without anything being looked up: an address, `localhost`, or a name below it. */
export function isLoopbackLiteral(host: string): boolean {
  return isLoopbackAddress(host) || /^(?:.+\.)?localhost\.?$/iu.test(host);
}

/** Asks the system for the addresses of a name. */
export async function systemResolve(host: string): Promise<readonly string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

/** Finds the place of a gateway. Raises `GATEWAY_UNREACHABLE`, `GATEWAY_INSECURE`, `PROTOCOL_UNSUPPORTED` or `CERTIFICATE_MISSING`. */
export async function discover(gateway: Gateway, files: TlsFiles = {}, asking: Asking = {}): Promise<Place> {
  const { resolve = systemResolve } = asking;
  const local = await loopbackAddress(gateway.host, resolve).catch((error: unknown) => {
    throw unreachable(gateway, `its name cannot be resolved (${messageOf(error)})`, error);
  });
  const body = await fetchDocument(gateway, local, files, asking);
  const place = judgeDiscovery(
    body,
    local !== undefined,
    (host) => isLoopbackLiteral(host) || isIP(host) === 0,
    authority(gateway),
  );
  if (place.asksCertificate && files.cert === undefined) throw certificateMissing(place.address);
  if (place.tls) return place;
  const { host, port } = readAuthority(place.address, 0) as Gateway;
  const address = await loopbackAddress(host, resolve).catch(() => undefined);
  if (address === undefined) throw insecure(authority(gateway), place.address);
  return { ...place, address: authority({ host: address, port }) };
}

/**
 * Judges what a gateway answered. `isLoopback` judges the host of a gRPC address that is without TLS.
 *
 * Raises `PROTOCOL_UNSUPPORTED` if it is no answer of a gateway that speaks `certes.v1`, `GATEWAY_INSECURE` if it would
 * send a token over the network in clear.
 */
export function judgeDiscovery(
  body: string,
  foundOnLoopback: boolean,
  isLoopback: (host: string) => boolean = isLoopbackLiteral,
  gateway = "the gateway",
): Place {
  const { grpc, protocolVersions, domain } = readDocument(body);
  if (!Array.isArray(protocolVersions) || !protocolVersions.includes(PROTOCOL)) {
    throw unsupported(gateway, `it does not speak ${PROTOCOL}`);
  }
  const { address, tls, clientCertificate } = asObject(grpc);
  const place = typeof address === "string" ? readAuthority(address, 0) : undefined;
  if (typeof address !== "string" || place === undefined || "problem" in place || !/:[0-9]+$/u.test(address)) {
    throw unsupported(gateway, "its answer has no gRPC address with a port");
  }
  if (typeof tls !== "boolean") throw unsupported(gateway, "its answer does not say whether gRPC is with TLS");
  if (!tls && !(foundOnLoopback && isLoopback(place.host))) throw insecure(gateway, address);
  const asksCertificate = tls && clientCertificate === true;
  return { address, tls, domain: typeof domain === "string" ? domain : "", asksCertificate };
}

function readDocument(body: string): Record<string, unknown> {
  try {
    return asObject(JSON.parse(body));
  } catch {
    return {};
  }
}

function asObject(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

/** The address of a host that is loopback; nothing if it is not. Raises what the look-up raises. */
async function loopbackAddress(host: string, resolve: Resolve): Promise<string | undefined> {
  if (isIP(host) !== 0) return isLoopbackAddress(host) ? host : undefined;
  if (isLoopbackLiteral(host)) {
    // A name below localhost need not be known to the system; that it is loopback is certain (RFC 6761, 6.3).
    const found = await resolve(host).catch(() => []);
    return found.find(isLoopbackAddress) ?? "127.0.0.1";
  }
  const addresses = await resolve(host);
  return addresses.length > 0 && addresses.every(isLoopbackAddress) ? addresses[0] : undefined;
}

async function fetchDocument(
  gateway: Gateway,
  local: string | undefined,
  files: TlsFiles,
  { connectTo, timeout = TIMEOUT }: Asking,
): Promise<string> {
  const options: RequestOptions & TlsFiles & { servername?: string } = {
    host: connectTo ?? local ?? gateway.host,
    port: gateway.port,
    path: "/.well-known/certes",
    headers: { host: authority(gateway), accept: "application/json" },
    agent: false,
    signal: AbortSignal.timeout(timeout),
    // A certificate is for the gateway's name; an address has none to be sent (RFC 6066, 3).
    ...(local === undefined && isIP(gateway.host) === 0 && { servername: gateway.host }),
    ...(local === undefined && files),
  };
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = local === undefined ? requestTls(options, resolve) : requestPlain(options, resolve);
      sent.on("error", reject).end();
    });
    if (response.statusCode !== 200) {
      response.destroy();
      throw unreachable(gateway, `it answers ${response.statusCode}`);
    }
    return await readAtMost(response, gateway);
  } catch (error) {
    if (error instanceof CertesError) throw error;
    throw unreachable(gateway, messageOf(error), error, local === undefined);
  }
}

async function readAtMost(response: IncomingMessage, gateway: Gateway): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MOST_BYTES) throw unsupported(authority(gateway), `its answer is larger than ${MOST_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return "the connection failed";
  if (error.name === "TimeoutError" || error.name === "AbortError") return "it does not answer in time";
  // A name with several addresses fails with an error for each of them, and none for itself.
  return error.message || ((error as { code?: string }).code ?? "the connection failed");
}

function unreachable(gateway: Gateway, problem: string, cause?: unknown, tls = false): CertesError {
  return new CertesError("UNAVAILABLE", "GATEWAY_UNREACHABLE", `The gateway ${authority(gateway)} cannot be reached: ${problem}.`, {
    hint:
      "See whether the broker runs, whether its name is right, and for TLS whether its authority is trusted (caFile)." +
      // A server of TLS 1.3 turns a client away once it has begun to speak, and what it says of it may be lost.
      (tls ? " If it asks clients for certificates, name one by certificate and certificateKey." : ""),
    metadata: { gateway: authority(gateway) },
    cause,
  });
}

function unsupported(gateway: string, problem: string): CertesError {
  return new CertesError(
    "FAILED_PRECONDITION",
    "PROTOCOL_UNSUPPORTED",
    `${gateway} is no gateway that can be spoken to: ${problem}.`,
    {
      hint: "See whether a Certes broker answers there, and whether it is of a version that this SDK knows.",
    },
  );
}

function certificateMissing(address: string): CertesError {
  return new CertesError(
    "FAILED_PRECONDITION",
    "CERTIFICATE_MISSING",
    `The gateway says that gRPC at ${address} asks clients for certificates, and none is set.`,
    { hint: "Set certificate and certificateKey, or CERTES_CERTIFICATE and CERTES_CERTIFICATE_KEY." },
  );
}

function insecure(gateway: string, address: string): CertesError {
  return new CertesError(
    "FAILED_PRECONDITION",
    "GATEWAY_INSECURE",
    `${gateway} says that gRPC is at ${address} without TLS, where a token would travel in clear.`,
    { hint: "Let the broker serve gRPC with TLS, or reach both it and its gateway on loopback." },
  );
}
