/** The connection of a client to its broker: found when it is first needed, found again when it is lost. */

import { discover, type Place } from "./discovery.js";
import { asCertesError, CertesError } from "./errors.js";
import { Rpc } from "./rpc.js";
import type { Settings } from "./settings.js";
import { isSameContent, readTlsFiles, type TlsFiles } from "./tls_files.js";

/** Finds the gateway and keeps the channel to it. */
export class Connection {
  readonly #settings: Settings;
  /** What was in the files of TLS when they last fitted together. */
  #files: TlsFiles;
  #rpc: Rpc | undefined;
  #finding: Promise<Rpc> | undefined;
  #lost = false;
  #closed = false;

  /** Raises `FIELD_INVALID` for a file of TLS. */
  constructor(settings: Settings) {
    this.#settings = settings;
    this.#files = readTlsFiles(settings);
  }

  /** The broker's own domain, if it is known already. */
  get domain(): string | undefined {
    return this.#rpc?.place.domain;
  }

  /** The channel. Raises what discovery does, and `CLIENT_CLOSED`. */
  async rpc(): Promise<Rpc> {
    if (this.#closed) throw clientClosed();
    if (this.#rpc !== undefined && !this.#lost) return this.#rpc;
    this.#finding ??= this.#find().finally(() => {
      this.#finding = undefined;
    });
    return this.#finding;
  }

  /** Says that a call could not reach the broker, which may have moved: the gateway is asked again before the next. */
  lost(): void {
    this.#lost = true;
  }

  /**
   * What a call was refused by, as this connection sees it. It lives longer than the certificate that it began with: so what
   * is refused for its caller may succeed over another one, where the certificate has been renewed since.
   */
  refusal(error: CertesError): CertesError {
    if (error.code !== "UNAUTHENTICATED" || this.#rpc === undefined) return error;
    if (isSameContent(this.#latestFiles(), this.#rpc.files)) return error;
    this.lost();
    return new CertesError("UNAVAILABLE", "UNAVAILABLE", `The certificate was renewed, and the connection is not yet: ${error}`, {
      cause: error,
    });
  }

  /** Lets go. */
  close(): void {
    this.#closed = true;
    this.#rpc?.close();
  }

  async #find(): Promise<Rpc> {
    const { gateway, token } = this.#settings;
    const files = (this.#files = this.#latestFiles());
    const place = await discover(gateway, files);
    if (this.#closed) throw clientClosed();
    if (this.#rpc === undefined || !isSame(this.#rpc.place, place) || !isSameContent(this.#rpc.files, files)) {
      this.#rpc?.close();
      this.#rpc = makeRpc(place, token, files);
    }
    this.#lost = false;
    return this.#rpc;
  }

  /** What is in the files of TLS; while they do not fit together, what was when they did. */
  #latestFiles(): TlsFiles {
    try {
      return readTlsFiles(this.#settings);
    } catch (raised) {
      const error = asCertesError(raised);
      this.#settings.logger.warn(`What was in the files of TLS is used on: ${error}`, error);
      return this.#files;
    }
  }
}

/** The error of whatever is called after `close`. */
export function clientClosed(): CertesError {
  return new CertesError("FAILED_PRECONDITION", "CLIENT_CLOSED", "The client is closed.", {
    hint: "Call init again, or make another Client.",
  });
}

function makeRpc(place: Place, token: string | undefined, files: TlsFiles): Rpc {
  try {
    return new Rpc(place, token, files);
  } catch (error) {
    throw asCertesError(error);
  }
}

function isSame(one: Place, other: Place): boolean {
  return one.address === other.address && one.tls === other.tls && one.domain === other.domain;
}
