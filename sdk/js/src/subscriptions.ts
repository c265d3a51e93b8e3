/** The subscriptions of an application, and what the broker says of them. */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Subscription } from "../gen/certes/v1/subscription_pb.js";
import {
  GetSigningSecretsRequestSchema,
  GetSigningSecretsResponseSchema,
  GetSubscriptionRequestSchema,
  GetSubscriptionResponseSchema,
  UpdateSubscriptionRequestSchema,
  UpdateSubscriptionResponseSchema,
} from "../gen/certes/v1/subscription_service_pb.js";
import { type Clock, TimeLimit } from "./clock.js";
import { type Connection, clientClosed } from "./connection.js";
import { CertesError, fieldInvalid } from "./errors.js";
import { untilAnswered } from "./retrying.js";
import { METHODS } from "./rpc.js";
import { distinct, type Selector } from "./selectors.js";
import { checkId, type Settings, subscriptionName } from "./settings.js";

/** How a subscription is made. */
export interface SubscriptionOptions {
  /** Tells this subscription of the application from its others. */
  name?: string;
  /** A CEL expression over `event` and `data` that must also be true. */
  filter?: string;
}

const TIMEOUT = 10_000;
const TRIED_FOR = 30_000;
const DEFAULT_ACK_DEADLINE = 30_000;

/** Makes and knows the subscriptions of one application. */
export class Subscriptions {
  readonly #settings: Settings;
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #closed: AbortSignal;
  readonly #ensured = new Set<string>();
  readonly #ackDeadlines = new Map<string, number>();

  constructor(settings: Settings, connection: Connection, clock: Clock, closed: AbortSignal) {
    this.#settings = settings;
    this.#connection = connection;
    this.#clock = clock;
    this.#closed = closed;
  }

  /** The names of those that were ensured, else of the application's main one. Raises `APP_MISSING`. */
  names(): readonly string[] {
    return this.#ensured.size > 0 ? [...this.#ensured] : [this.#nameOf(undefined)];
  }

  /** Whether any was ensured. */
  get isAnyEnsured(): boolean {
    return this.#ensured.size > 0;
  }

  /** Makes the selectors of one subscription equal to a list. Returns its name when the broker has stored it. */
  async ensure(selectors: readonly Selector[], options: SubscriptionOptions): Promise<string> {
    const name = this.#nameOf(options.name);
    const { callbackUrl, generation } = this.#settings;
    const request = create(UpdateSubscriptionRequestSchema, {
      subscription: {
        name,
        selectors: distinct(selectors).map(({ pattern, options: narrowed }) => ({ pattern, options: { ...narrowed } })),
        filter: options.filter ?? "",
        ...(generation !== undefined && { generation }),
        delivery: callbackUrl === undefined ? { case: "stream", value: {} } : { case: "webhook", value: { url: callbackUrl } },
      },
      updateMask: {
        paths: [
          "selectors",
          "filter",
          ...(generation === undefined ? [] : ["generation"]),
          callbackUrl === undefined ? "stream" : "webhook.url",
        ],
      },
      allowMissing: true,
    });
    const answer = await this.#call(METHODS.updateSubscription, toBinary(UpdateSubscriptionRequestSchema, request));
    const { subscription } = fromBinary(UpdateSubscriptionResponseSchema, answer);
    this.#ensured.add(name);
    this.#learn(name, subscription);
    return name;
  }

  /** How long a delivery may stay unsettled, in milliseconds; the broker's default where it does not say. */
  async ackDeadline(name: string): Promise<number> {
    const known = this.#ackDeadlines.get(name);
    if (known !== undefined) return known;
    try {
      const rpc = await this.#connection.rpc();
      const request = toBinary(GetSubscriptionRequestSchema, create(GetSubscriptionRequestSchema, { name }));
      const answer = await rpc.unary(METHODS.getSubscription, request, TIMEOUT, this.#closed);
      this.#learn(name, fromBinary(GetSubscriptionResponseSchema, answer).subscription);
    } catch {
      // Whatever is wrong, the opening of the stream will say it.
    }
    return this.#ackDeadlines.get(name) ?? DEFAULT_ACK_DEADLINE;
  }

  /** The signing secrets of a subscription, newest first. */
  async signingSecrets(name: string): Promise<readonly string[]> {
    const rpc = await this.#connection.rpc();
    const request = toBinary(GetSigningSecretsRequestSchema, create(GetSigningSecretsRequestSchema, { name }));
    const answer = await rpc.unary(METHODS.getSigningSecrets, request, TIMEOUT, this.#closed);
    return fromBinary(GetSigningSecretsResponseSchema, answer).secrets.map(({ secret }) => secret);
  }

  #learn(name: string, subscription: Subscription | undefined): void {
    const deadline = subscription?.ackDeadline === undefined ? 0 : durationMs(subscription.ackDeadline);
    this.#ackDeadlines.set(name, deadline > 0 ? deadline : DEFAULT_ACK_DEADLINE);
  }

  #nameOf(name: string | undefined): string {
    const { app, subscriber } = this.#settings;
    if (app === undefined) {
      throw new CertesError(
        "FAILED_PRECONDITION",
        "APP_MISSING",
        "A subscription is named after the application, which has no name.",
        {
          hint: "Give init the name of the application: app, or CERTES_APP.",
        },
      );
    }
    if (name !== undefined) {
      const problem = checkId(`${app}:${name}`) ?? (name === "" ? "is empty" : undefined);
      if (problem !== undefined) throw fieldInvalid("name", problem);
    }
    return subscriptionName(subscriber, app, name);
  }

  /** Calls, and again for as long as a refusal says that it may help, 30 s at most. */
  async #call(method: string, request: Uint8Array): Promise<Buffer> {
    const limit = new TimeLimit(this.#clock, TRIED_FOR, this.#closed);
    try {
      return await untilAnswered((rpc) => rpc.unary(method, request, TIMEOUT, limit.signal), {
        connection: this.#connection,
        clock: this.#clock,
        signal: limit.signal,
        ended: (trouble) => (this.#closed.aborted ? clientClosed() : (trouble ?? unanswered())),
      });
    } finally {
      limit.release();
    }
  }
}

function unanswered(): CertesError {
  return new CertesError("DEADLINE_EXCEEDED", "TIMED_OUT", "The broker did not answer in time.");
}
