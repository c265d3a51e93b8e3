/** One client from `init` to `close`: its parts, put together, and their end. */

import { create, createFileRegistry, type FileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { GetSchemaRequestSchema, GetSchemaResponseSchema } from "../gen/certes/v1/schema_service_pb.js";
import { type Clock, onAbort, pause, TimeLimit } from "./clock.js";
import { clientClosed, Connection } from "./connection.js";
import { DeliveryStream } from "./delivery_stream.js";
import { Dispatcher } from "./dispatcher.js";
import { asCertesError, CertesError, textOf } from "./errors.js";
import type { Handler, Handlers } from "./handlers.js";
import { JointPublisher } from "./joint_publisher.js";
import { type CallOptions, makeCall, needsBrokerDomain, type Publication, type Sender, timeoutOf, writePublication } from "./outgoing.js";
import { cancelled, type Receipt, timedOut } from "./publish_calls.js";
import { Publisher } from "./publisher.js";
import { untilAnswered } from "./retrying.js";
import { METHODS } from "./rpc.js";
import { Schemas } from "./schemas.js";
import type { Selector } from "./selectors.js";
import type { Settings } from "./settings.js";
import { type SubscriptionOptions, Subscriptions } from "./subscriptions.js";
import { answerWebhook, type WebhookAnswer, type WebhookRequest } from "./webhook.js";
import { type FetchedSecrets, WebhookKeys } from "./webhook_keys.js";

/** How long `close` waits for handlers that run and events that are under way, in seconds. */
const DRAINED_FOR = 30;
const TIMEOUT = 10_000;

/** The parts of a client, and what is done with them. */
export class Session {
  readonly #settings: Settings;
  readonly #clock: Clock;
  readonly #closed = new AbortController();
  readonly #connection: Connection;
  readonly #handlers: Handlers;
  readonly #dispatcher: Dispatcher;
  readonly #schemas: Schemas;
  readonly #subscriptions: Subscriptions;
  readonly #publisher: Publisher;
  readonly #jointPublisher: JointPublisher;
  readonly #keys: WebhookKeys;
  readonly #streams = new Map<string, { stream: DeliveryStream; ended: Promise<void> }>();
  /** Calls that wait until the broker has said its domain; later ones queue up behind them, so that the order is theirs. */
  #asking: Promise<unknown> | undefined;
  #isStarting = false;
  #isRunning = false;
  #closing: Promise<void> | undefined;

  constructor(settings: Settings, handlers: Handlers, clock: Clock) {
    this.#settings = settings;
    this.#handlers = handlers;
    this.#clock = clock;
    this.#connection = new Connection(settings);
    this.#dispatcher = new Dispatcher(handlers, settings.concurrency);
    this.#schemas = new Schemas((type) => this.#fetchSchema(type), clock);
    this.#subscriptions = new Subscriptions(settings, this.#connection, clock, this.#closed.signal);
    this.#publisher = new Publisher(this.#connection, clock);
    this.#jointPublisher = new JointPublisher(this.#connection, clock);
    this.#keys = new WebhookKeys(settings.webhookKeys, () => this.#fetchSecrets(), clock, settings.logger);
  }

  on(pattern: string, handler: Handler): void {
    this.#checkOpen();
    this.#handlers.add(pattern, handler);
    this.#startSoon();
  }

  async ensure(selectors: readonly Selector[], options: SubscriptionOptions): Promise<void> {
    this.#checkOpen();
    const name = await this.#subscriptions.ensure(selectors, options);
    if (this.#isRunning && this.#settings.callbackUrl === undefined) this.#watch(this.#startStream(name));
    this.#startSoon();
  }

  publish(publication: Publication): Promise<Receipt> {
    if (!this.#mayPublish) return Promise.reject(clientClosed());
    if (this.#asking !== undefined || needsBrokerDomain(publication.schema)) return this.#publishKnowingDomain(publication);
    return this.#submit(publication);
  }

  async publishAll(publications: readonly Publication[], options: CallOptions): Promise<Receipt[]> {
    if (!this.#mayPublish) throw clientClosed();
    return this.#jointPublisher.publish({
      write: (brokerDomain) => publications.map((publication) => writePublication(publication, this.#sender(brokerDomain))),
      count: publications.length,
      needsDomain: publications.some(({ schema }) => needsBrokerDomain(schema)),
      timeout: timeoutOf(options),
      signal: options.signal,
    });
  }

  /**
   * Runs the streams until the client is closed, or the signal is aborted, which closes it. Raises when a subscription is
   * gone.
   */
  async run(signal: AbortSignal | undefined): Promise<void> {
    this.#checkOpen();
    this.#isRunning = true;
    const close = (): void => void this.close();
    if (signal?.aborted) return this.close();
    signal?.addEventListener("abort", close, { once: true });
    try {
      const closed = new Promise<void>((resolve) => this.#closed.signal.addEventListener("abort", () => resolve()));
      if (this.#settings.callbackUrl !== undefined) await closed;
      else await Promise.race([closed, Promise.all(this.#subscriptions.names().map((name) => this.#startStream(name)))]);
      await this.#closing;
    } finally {
      signal?.removeEventListener("abort", close);
    }
  }

  answer(request: WebhookRequest): Promise<WebhookAnswer> {
    return answerWebhook(request, {
      keys: this.#keys,
      schemas: this.#schemas,
      handlers: this.#handlers,
      dispatcher: this.#dispatcher,
      logger: this.#settings.logger,
      isClosed: () => this.#closing !== undefined,
    });
  }

  /** Whether it takes no more calls. */
  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    const drained = (async () => {
      await this.#dispatcher.close();
      await this.#asking?.catch(() => undefined);
      await Promise.all([this.#publisher.close(), this.#jointPublisher.close()]);
      await Promise.all([...this.#streams.values()].map(({ stream }) => stream.flush()));
    })();
    const inTime = new AbortController();
    await Promise.race([drained.catch(() => undefined), pause(this.#clock, DRAINED_FOR, inTime.signal)]);
    inTime.abort();
    this.#closed.abort();
    for (const { stream } of this.#streams.values()) stream.close();
    this.#publisher.abort();
    this.#jointPublisher.abort();
    this.#connection.close();
  }

  /** While the client closes, handlers that still run may publish: it may be what they are there for. */
  get #mayPublish(): boolean {
    return this.#closing === undefined || this.#dispatcher.isAskedByHandler;
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw clientClosed();
  }

  /** Without a callback URL the streams start by themselves, when there is a subscription and somebody who handles. */
  #startSoon(): void {
    if (this.#settings.callbackUrl !== undefined || this.#isRunning || this.#isStarting) return;
    if (!this.#subscriptions.isAnyEnsured || this.#handlers.isEmpty) return;
    this.#isStarting = true;
    // Later, so that handlers that are registered in this turn are there when the first event comes.
    setImmediate(() => {
      this.#isStarting = false;
      if (this.#isRunning || this.#closing !== undefined) return;
      this.#isRunning = true;
      for (const name of this.#subscriptions.names()) this.#watch(this.#startStream(name));
    });
  }

  #startStream(name: string): Promise<void> {
    let started = this.#streams.get(name);
    if (started === undefined) {
      const stream = new DeliveryStream(name, {
        connection: this.#connection,
        dispatcher: this.#dispatcher,
        schemas: this.#schemas,
        clock: this.#clock,
        logger: this.#settings.logger,
        maxOutstanding: this.#settings.maxOutstanding,
        ackDeadline: (subscription) => this.#subscriptions.ackDeadline(subscription),
      });
      // One that has ended is none: its subscription may be ensured again.
      started = { stream, ended: stream.run().finally(() => this.#streams.delete(name)) };
      this.#streams.set(name, started);
    }
    return started.ended;
  }

  /** Of a stream that nobody waits for, the end is at least said. */
  #watch(ended: Promise<void>): void {
    ended.catch((raised: unknown) => {
      const error = asCertesError(raised);
      this.#settings.logger.warn(`A stream has ended for good: ${error}`, error);
    });
  }

  async #publishKnowingDomain(publication: Publication): Promise<Receipt> {
    const { signal } = publication.options;
    const limit = new TimeLimit(this.#clock, timeoutOf(publication.options), signal, this.#closed.signal);
    const before = this.#asking;
    const asking = (async () => {
      await before?.catch(() => undefined);
      if (!needsBrokerDomain(publication.schema)) return;
      await untilAnswered(async () => undefined, {
        connection: this.#connection,
        clock: this.#clock,
        signal: limit.signal,
        ended: (trouble) => (signal?.aborted ? cancelled(signal) : timedOut(trouble)),
      });
    })();
    this.#asking = asking;
    try {
      await asking;
    } finally {
      if (this.#asking === asking) this.#asking = undefined;
      limit.release();
    }
    return this.#submit({ ...publication, options: { ...publication.options, timeout: limit.left } });
  }

  #submit(publication: Publication): Promise<Receipt> {
    const { signal } = publication.options;
    try {
      const call = makeCall(publication, this.#sender(this.#connection.domain ?? ""));
      if (signal === undefined) {
        this.#publisher.submit(call);
        return call.done;
      }
      if (signal.aborted) throw cancelled(signal);
      const takeBack = onAbort(signal, () => this.#publisher.giveUp(call, cancelled(signal)));
      this.#publisher.submit(call);
      return call.done.finally(takeBack);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #sender(brokerDomain: string): Sender {
    return { source: this.#settings.source, brokerDomain, clock: this.#clock };
  }

  async #fetchSchema(type: string): Promise<FileRegistry> {
    const rpc = await this.#connection.rpc();
    const request = toBinary(GetSchemaRequestSchema, create(GetSchemaRequestSchema, { type }));
    const { version } = fromBinary(
      GetSchemaResponseSchema,
      await rpc.unary(METHODS.getSchema, request, TIMEOUT, this.#closed.signal),
    );
    try {
      return createFileRegistry(version!.descriptorSet!);
    } catch (error) {
      throw new CertesError(
        "INTERNAL",
        "SCHEMA_MALFORMED",
        `The schema of ${type} that the broker sent cannot be used: ${textOf(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  async #fetchSecrets(): Promise<FetchedSecrets> {
    const fetched = await Promise.allSettled(this.#subscriptions.names().map((name) => this.#subscriptions.signingSecrets(name)));
    const failed = fetched.find((one) => one.status === "rejected");
    return {
      secrets: fetched.flatMap((one) => (one.status === "fulfilled" ? one.value : [])),
      trouble: failed && asCertesError(failed.reason),
    };
  }
}
