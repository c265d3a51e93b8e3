/** The client: what programs use. */

import type { DescMessage, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { type Clock, systemClock } from "./clock.js";
import { CertesError, fieldInvalid } from "./errors.js";
import { type Handler, Handlers } from "./handlers.js";
import { type ExpressHandler, type FetchHandler, fetchHandlerOf, type NodeHandler, nodeHandlerOf } from "./http_handlers.js";
import { type CallOptions, type EventToPublish, publicationOf, type PublishOptions } from "./outgoing.js";
import type { Receipt } from "./publish_calls.js";
import { register as registerSchemas, type Registrable } from "./registered_schemas.js";
import { event as makeSelector, type OptionValue, Selector } from "./selectors.js";
import { Session } from "./session.js";
import { type Options, readSettings } from "./settings.js";
import type { SubscriptionOptions } from "./subscriptions.js";
import { refusal, type WebhookAnswer, type WebhookRequest } from "./webhook.js";

/** How `sendOutgoingEvent` publishes: all of `publish` but the audience, which is its first argument. */
export type SendOptions = Omit<PublishOptions, "subscriber" | "everyone">;

/**
 * Publishes events to a Certes broker, and handles those that it delivers.
 *
 * A program with one broker uses the functions of the package, which are those of one such client; others make their own.
 */
export class Client {
  readonly #clock: Clock;
  readonly #handlers = new Handlers();
  #session: Session | undefined;

  /** Makes a client; with a URI it is initialised, as by `init`. */
  constructor(uri?: string, options: Options = {}, clock: Clock = systemClock) {
    this.#clock = clock;
    if (uri !== undefined) this.init(uri, options);
  }

  /**
   * Sets the client up: `init("events://events.meetly.com")`. Reads the files that settings name, and asks
   * nobody: the gateway is asked when it is first needed.
   * Handlers that were registered before stay, also where a client that was closed is set up again.
   *
   * Raises `MALFORMED_URI`, with the position, `FIELD_INVALID`, with the setting's name, or `ALREADY_INITIALIZED`.
   */
  init(uri: string, options: Options = {}): void {
    if (this.#session?.isClosed === false) throw alreadyInitialized();
    const settings = readSettings(uri, options, process.env);
    this.#session = new Session(settings, this.#handlers, this.#clock);
  }

  /**
   * Makes a selector: `event("community.certes.dev/github/1/issues", {repo: "meetly/app"})`. Raises what malformed patterns
   * do.
   */
  event<Options extends object = Record<string, OptionValue>>(pattern: string, options?: Options | null): Selector {
    return makeSelector(pattern, options);
  }

  /**
   * Makes the selectors of the application's subscription equal to a list. Resolves when the broker has stored it; without
   * a callback URL the events then come by themselves. The last argument may name another of the application's
   * subscriptions, or filter.
   *
   * Refusals that are retryable are retried for at most 30 s. All others are the caller's; `STALE_GENERATION` among them.
   */
  async ensureSubscriptions(...events: readonly (Selector | readonly Selector[] | SubscriptionOptions)[]): Promise<void> {
    const selectors: Selector[] = [];
    let options: SubscriptionOptions = {};
    for (const [index, argument] of events.entries()) {
      if (argument instanceof Selector) selectors.push(argument);
      else if (Array.isArray(argument)) selectors.push(...(argument as Selector[]));
      else if (index === events.length - 1 && typeof argument === "object") options = argument as SubscriptionOptions;
      else throw notSelectors();
    }
    if (!selectors.every((selector) => selector instanceof Selector)) throw notSelectors();
    await this.#open().ensure(selectors, options);
  }

  /**
   * Registers a handler. Of the patterns that match an event's type the most specific decides, and all its handlers run, in
   * the order of their registration. `raw` is the decoded message; an error that a handler raises, or its promise, makes
   * the event be delivered again. It may be called before `init`.
   *
   * Raises `MALFORMED_PATTERN` or `UNMATCHABLE_PATTERN`.
   */
  on(pattern: string, handler: Handler): void {
    if (typeof handler !== "function") throw fieldInvalid("handler", "is no function");
    if (this.#session === undefined) this.#handlers.add(pattern, handler);
    else this.#session.on(pattern, handler);
  }

  /** Handles deliveries until the client is closed. Aborting the signal closes it. Raises when a subscription is gone. */
  async run(options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#open().run(options.signal);
  }

  /** Makes a handler of webhooks for Express: `app.post("/", expressHandler())`, before any body parser. */
  expressHandler(): ExpressHandler {
    return nodeHandlerOf((request) => this.#answer(request));
  }

  /** Makes a handler of webhooks for `http.createServer`. */
  nodeHandler(): NodeHandler {
    return nodeHandlerOf((request) => this.#answer(request));
  }

  /** Makes a handler of webhooks for servers that take a `Request` and give a `Response`. */
  fetchHandler(): FetchHandler {
    return fetchHandlerOf((request) => this.#answer(request));
  }

  /**
   * Publishes an event for one subscriber. Resolves when it is durable.
   *
   * Raises `AUDIENCE_MISSING` for an empty id, what the broker refuses, and `TIMED_OUT` after 60 s.
   */
  sendOutgoingEvent<Desc extends DescMessage>(
    subscriber: string,
    schema: Desc,
    message: MessageShape<Desc> | MessageInitShape<Desc>,
    options?: SendOptions,
  ): Promise<Receipt>;
  sendOutgoingEvent(subscriber: string, message: Message, options?: SendOptions): Promise<Receipt>;
  async sendOutgoingEvent(subscriber: string, first: unknown, second?: unknown, third?: unknown): Promise<Receipt> {
    const { schema, message, options } = publicationOf(first, second, third);
    return this.#open().publish({ schema, message, options: { ...options, everyone: false, subscriber } });
  }

  /**
   * Publishes an event: `publish(PushEventSchema, {ref: "refs/heads/main"}, {everyone: true})`. Resolves when it is
   * durable. Calls that are made while others are written go along with the next request.
   *
   * Raises what the broker refuses, and `TIMED_OUT` after 60 s or the call's own time.
   */
  publish<Desc extends DescMessage>(
    schema: Desc,
    message: MessageShape<Desc> | MessageInitShape<Desc>,
    options: PublishOptions,
  ): Promise<Receipt>;
  publish(message: Message, options: PublishOptions): Promise<Receipt>;
  publish(first: unknown, second?: unknown, third?: unknown): Promise<Receipt> {
    try {
      return this.#open().publish(publicationOf(first, second, third));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Publishes several events, all of them or none: at most 1,000, and 4 MiB. Resolves when they are durable, to their
   * receipts in the same order. No order is promised with calls that are under way at the same time.
   *
   * Raises what the broker refuses, and `TIMED_OUT` after 60 s or the call's own time.
   */
  async publishAll(events: readonly EventToPublish[], options: CallOptions = {}): Promise<Receipt[]> {
    const session = this.#open();
    if (!Array.isArray(events)) throw fieldInvalid("events", "is no list");
    const publications = (events as readonly EventToPublish[]).map(({ schema, message, ...others }) =>
      schema === undefined ? publicationOf(message, others, undefined) : { schema, message, options: others },
    );
    return session.publishAll(publications, options);
  }

  /**
   * Lets messages be published without their schema beside them: `register(PushEventSchema)`, or all of a module,
   * `register(github)`.
   */
  register(...schemas: readonly Registrable[]): void {
    registerSchemas(...schemas);
  }

  /**
   * Takes no more deliveries and no more calls, but for what handlers that still run publish; waits up to 30 s for those
   * handlers and for events that are under way, tells the broker what was settled, and ends the streams. Idempotent. The
   * process ends by itself afterwards.
   */
  async close(): Promise<void> {
    await this.#session?.close();
  }

  #open(): Session {
    if (this.#session === undefined) throw notInitialized();
    return this.#session;
  }

  async #answer(request: WebhookRequest): Promise<WebhookAnswer> {
    return this.#session === undefined ? refusal(503, notInitialized()) : this.#session.answer(request);
  }
}

function notInitialized(): CertesError {
  return new CertesError("FAILED_PRECONDITION", "NOT_INITIALIZED", "The client was not initialised.", {
    hint: 'Call init("events://…") first.',
  });
}

function alreadyInitialized(): CertesError {
  return new CertesError("FAILED_PRECONDITION", "ALREADY_INITIALIZED", "The client was initialised before.", {
    hint: "Close it before, or make another Client.",
  });
}

function notSelectors(): CertesError {
  return fieldInvalid("events", "is no list of what event(pattern, options) made, with options as the last argument");
}
