/** The keys that verify webhooks: those of the settings, and those that the broker signs with, fetched from it. */

import type { Clock } from "./clock.js";
import { asCertesError, CertesError } from "./errors.js";
import type { Logger } from "./logger.js";
import { type HeaderPairs, readKey, verifyWebhook, type WebhookKey } from "./signatures.js";

const KEPT_FOR = 300_000;
/** Strangers must not be able to make it ask. */
const AGAIN_AFTER = 10_000;

/** What the broker signs with. `trouble` is there if some of it could not be fetched. */
export interface FetchedSecrets {
  readonly secrets: readonly string[];
  readonly trouble: CertesError | undefined;
}

/** Asks the broker for the secrets of all the application's subscriptions. */
export type FetchSecrets = () => Promise<FetchedSecrets>;

/** Verifies requests, and fetches secrets where that is needed. */
export class WebhookKeys {
  readonly #own: readonly WebhookKey[];
  readonly #fetch: FetchSecrets;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #fetched: readonly WebhookKey[] = [];
  #fetchedAt = -Infinity;
  #askedAt = -Infinity;
  #trouble: CertesError | undefined;
  #asking: Promise<void> | undefined;

  constructor(own: readonly string[], fetch: FetchSecrets, clock: Clock, logger: Logger) {
    this.#own = keysOf(own);
    this.#fetch = fetch;
    this.#clock = clock;
    this.#logger = logger;
  }

  /** Proves that a request was signed with one of the keys. Raises `SIGNATURE_INVALID` or `SECRETS_UNAVAILABLE`. */
  async verify(headers: HeaderPairs, body: Uint8Array): Promise<void> {
    const refusal = this.#judge(headers, body);
    if (refusal === undefined) return;
    if (refusal.metadata["problem"] !== "NO_MATCH") throw refusal;
    await this.#ask();
    const again = this.#judge(headers, body);
    if (again === undefined) return;
    if (this.#trouble === undefined) throw again;
    // Whoever asks has proven nothing: why is for the log.
    throw new CertesError("UNAVAILABLE", "SECRETS_UNAVAILABLE", "The signing secrets could not be fetched for now.");
  }

  #judge(headers: HeaderPairs, body: Uint8Array): CertesError | undefined {
    const isFresh = this.#clock.now() - this.#fetchedAt < KEPT_FOR;
    try {
      verifyWebhook(isFresh ? [...this.#own, ...this.#fetched] : this.#own, headers, body, this.#clock.now() / 1000);
      return undefined;
    } catch (error) {
      return asCertesError(error);
    }
  }

  /** Asks the broker, unless it was asked a short while ago. */
  async #ask(): Promise<void> {
    if (this.#asking === undefined) {
      if (this.#clock.now() - this.#askedAt < AGAIN_AFTER) return;
      this.#askedAt = this.#clock.now();
      this.#asking = this.#fetchKeys().finally(() => {
        this.#asking = undefined;
      });
    }
    await this.#asking;
  }

  async #fetchKeys(): Promise<void> {
    const { secrets, trouble } = await this.#fetch().catch((error: unknown) => ({
      secrets: undefined,
      trouble: asCertesError(error),
    }));
    this.#trouble = trouble;
    if (trouble !== undefined) this.#logger.warn(`The signing secrets could not be fetched: ${trouble}`, trouble);
    if (secrets === undefined) return;
    this.#fetched = keysOf(secrets);
    this.#fetchedAt = this.#clock.now();
  }
}

function keysOf(texts: readonly string[]): WebhookKey[] {
  return texts.map(readKey).filter((key) => key !== undefined);
}
