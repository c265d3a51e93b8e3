/**
 * Runs handlers: so many at once, the others wait in the order in which they came.
 *
 * A handler that returns no promise is done when it returns, and takes no place of those who run; a thousand events that
 * are handled so take one turn, not a thousand promises. The event loop gets its turn between, so that heartbeats and
 * answers are not starved.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import type { Message } from "@bufbuild/protobuf";
import { asCertesError, CertesError, textOf } from "./errors.js";
import type { EventMeta } from "./event_meta.js";
import type { Handler, Handlers } from "./handlers.js";
import { hasTracing, withTrace } from "./tracing.js";

/** An event to be handled. */
export interface Job {
  readonly meta: EventMeta;
  /** Decodes its content. May raise. */
  decode(): Message | Promise<Message>;
  /** Whether it is still worth being begun: it is not where its stream has ended. */
  isWanted(): boolean;
  /** Takes what came of it: nothing if its handlers have returned. */
  finish(error: CertesError | undefined): void;
  /** Takes that it will not be begun, since the client closes. */
  leave(): void;
}

/** How long events are handled at a stretch, in milliseconds, before others get their turn. */
const STRETCH = 20;
const LOOK_AT_CLOCK = 16;
const MOST_TAKEN = 1024;

/** Whose handlers are what is going on. There is no other way to tell whose a call is. */
const handling = new AsyncLocalStorage<Dispatcher>();

/** The one place where an application's events are handled, be they of streams or of webhooks. */
export class Dispatcher {
  readonly #handlers: Handlers;
  readonly #concurrency: number;
  #waiting: Job[] = [];
  #taken = 0;
  #running = 0;
  #scheduled = false;
  #closed = false;
  #idle: (() => void)[] = [];

  constructor(handlers: Handlers, concurrency: number) {
    this.#handlers = handlers;
    this.#concurrency = concurrency;
  }

  /** Whether whoever asks is one of the handlers, and any still runs. */
  get isAskedByHandler(): boolean {
    return this.#running > 0 && handling.getStore() === this;
  }

  /** Handles an event as soon as there is a place for it. */
  submit(job: Job): void {
    this.submitAll([job]);
  }

  /** Handles events as soon as there is a place for them. */
  submitAll(jobs: readonly Job[]): void {
    if (this.#closed) return jobs.forEach((job) => job.leave());
    for (const job of jobs) this.#waiting.push(job);
    if (!this.#scheduled) this.#pump();
  }

  /** Begins nothing more, and resolves when what runs has ended. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#waiting.splice(0).slice(this.#taken)) job.leave();
    this.#taken = 0;
    if (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #pump(): void {
    // Once for all that are begun, for it costs as much as to begin one.
    handling.run(this, () => this.#beginAll());
  }

  #beginAll(): void {
    // Whoever submits from within a handler finds that there is somebody who handles already.
    this.#scheduled = true;
    const start = performance.now();
    let begun = 0;
    while (this.#running < this.#concurrency && this.#taken < this.#waiting.length && !this.#closed) {
      const job = this.#waiting[this.#taken++]!;
      if (job.isWanted()) this.#begin(job);
      begun += 1;
      if (begun % LOOK_AT_CLOCK === 0 && performance.now() - start > STRETCH) {
        setImmediate(() => this.#pump());
        return;
      }
    }
    this.#scheduled = false;
    if (this.#taken === this.#waiting.length) {
      this.#waiting = [];
      this.#taken = 0;
    } else if (this.#taken > MOST_TAKEN) {
      this.#waiting.splice(0, this.#taken);
      this.#taken = 0;
    }
  }

  #begin(job: Job): void {
    let outcome: Promise<void> | undefined;
    try {
      outcome = this.#handle(job);
    } catch (error) {
      return job.finish(asCertesError(error));
    }
    if (outcome === undefined) return job.finish(undefined);
    this.#running += 1;
    const end = (error: CertesError | undefined): void => {
      this.#running -= 1;
      job.finish(error);
      if (this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
      if (!this.#scheduled) this.#pump();
    };
    outcome.then(
      () => end(undefined),
      (error: unknown) => end(asCertesError(error)),
    );
  }

  /** A promise where something has to be waited for. */
  #handle(job: Job): Promise<void> | undefined {
    const handlers = this.#handlers.for(job.meta.type);
    if (handlers.length === 0) throw noHandler(job.meta.type);
    const raw = job.decode();
    if (raw instanceof Promise) return raw.then((message) => run(handlers, message, job.meta));
    return run(handlers, raw, job.meta);
  }
}

function run(handlers: readonly Handler[], message: Message, meta: EventMeta): Promise<void> | undefined {
  if (!hasTracing) return runFrom(0, handlers, message, meta);
  return withTrace(
    meta.traceparent,
    () => meta.tracestate,
    () => runFrom(0, handlers, message, meta),
  );
}

function runFrom(first: number, handlers: readonly Handler[], message: Message, meta: EventMeta): Promise<void> | undefined {
  for (let index = first; index < handlers.length; index += 1) {
    let returned: unknown;
    try {
      returned = handlers[index]!(message, meta);
    } catch (error) {
      throw handlerFailed(error);
    }
    if (isThenable(returned)) return runRest(returned, index + 1, handlers, message, meta);
  }
  return undefined;
}

async function runRest(
  pending: PromiseLike<unknown>,
  next: number,
  ...[handlers, message, meta]: [readonly Handler[], Message, EventMeta]
): Promise<void> {
  try {
    await pending;
  } catch (error) {
    throw handlerFailed(error);
  }
  await runFrom(next, handlers, message, meta);
}

/** What is told of an event that nobody handles. */
export function noHandler(type: string): CertesError {
  return new CertesError("UNIMPLEMENTED", "NO_HANDLER", `Nobody handles events of ${type}.`, {
    hint: "Register a handler with on(pattern, handler), or leave the type out of ensureSubscriptions.",
    metadata: { type },
  });
}

function handlerFailed(raised: unknown): CertesError {
  return new CertesError("INTERNAL", "HANDLER_FAILED", textOf(raised), { cause: raised });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
