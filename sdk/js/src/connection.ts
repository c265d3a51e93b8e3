/** The connection of a client to its broker: found when it is first needed, found again when it is lost. */

import { readFile } from "node:fs/promises";
import { discover, type Place } from "./discovery.js";
import { asCertesError, CertesError, fieldInvalid } from "./errors.js";
import { Rpc } from "./rpc.js";
import type { Settings } from "./settings.js";

/** Finds the gateway and keeps the channel to it. */
export class Connection {
  readonly #settings: Settings;
  #rpc: Rpc | undefined;
  #finding: Promise<Rpc> | undefined;
  #lost = false;
  #closed = false;

  constructor(settings: Settings) {
    this.#settings = settings;
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

  /** Lets go. */
  close(): void {
    this.#closed = true;
    this.#rpc?.close();
  }

  async #find(): Promise<Rpc> {
    const { gateway, caFile, token } = this.#settings;
    const ca = caFile === undefined ? undefined : await readAuthorities(caFile);
    const place = await discover(gateway, ca);
    if (this.#closed) throw clientClosed();
    if (this.#rpc === undefined || !isSame(this.#rpc.place, place)) {
      this.#rpc?.close();
      this.#rpc = makeRpc(place, token, ca);
    }
    this.#lost = false;
    return this.#rpc;
  }
}

/** The error of whatever is called after `close`. */
export function clientClosed(): CertesError {
  return new CertesError("FAILED_PRECONDITION", "CLIENT_CLOSED", "The client is closed.", {
    hint: "Call init again, or make another Client.",
  });
}

function makeRpc(place: Place, token: string | undefined, ca: Buffer | undefined): Rpc {
  try {
    return new Rpc(place, token, ca);
  } catch (error) {
    throw asCertesError(error);
  }
}

async function readAuthorities(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw fieldInvalid("ca_file", `cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function isSame(one: Place, other: Place): boolean {
  return one.address === other.address && one.tls === other.tls && one.domain === other.domain;
}
