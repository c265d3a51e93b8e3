/** What is known of an event beside its content. */

import { inspect } from "node:util";

/** An event without its content, as it came. Texts that it does not have are empty. */
export interface EventFacts {
  readonly id: string;
  readonly source: string;
  readonly subject: string;
  readonly time: Date | undefined;
  readonly subscriber: string;
  readonly everyone: boolean;
  readonly attributes: Readonly<Record<string, string>>;
  readonly tracestate: string;
  readonly name: string;
  readonly acceptTime: Date | undefined;
  readonly correlationIds: readonly string[];
}

/** What is needed of every event, whatever its handler asks for. */
export interface EventOutline {
  readonly type: string;
  readonly orderingKey: string;
  readonly attempt: number | undefined;
  readonly traceparent: string;
}

/** The metadata of an event: the second argument of a handler. */
export class EventMeta {
  /** The event URI of the event's type, such as `community.certes.dev/github/1/push`. */
  readonly type: string;
  /** Events with the same key are handled one after another. Empty where no order is promised. */
  readonly orderingKey: string;
  /** Counts the attempts at this delivery, from 1. Absent in a webhook, which does not say it. */
  readonly attempt: number | undefined;
  /** The W3C trace context of the producer. Empty for none. */
  readonly traceparent: string;
  readonly #read: () => EventFacts;
  #facts: EventFacts | undefined;

  /** @internal Most handlers look at little of it, so what nobody else needs is read when it is first asked for. */
  constructor({ type, orderingKey, attempt, traceparent }: EventOutline, read: () => EventFacts) {
    this.type = type;
    this.orderingKey = orderingKey;
    this.attempt = attempt;
    this.traceparent = traceparent;
    this.#read = read;
  }

  /** Identifies the event within its source. It is the same over all attempts. */
  get id(): string {
    return this.#known.id;
  }

  /** Who sent it: a URI reference. */
  get source(): string {
    return this.#known.source;
  }

  /** What it is about within its source. Empty for nothing in particular. */
  get subject(): string {
    return this.#known.subject;
  }

  /** When what it reports happened, to the millisecond. */
  get time(): Date | undefined {
    return this.#known.time;
  }

  /** The one subscriber that may see it. Empty if it is for everyone. */
  get subscriber(): string {
    return this.#known.subscriber;
  }

  /** Whether it is for every subscriber. */
  get everyone(): boolean {
    return this.#known.everyone;
  }

  /** Further attributes. */
  get attributes(): Readonly<Record<string, string>> {
    return this.#known.attributes;
  }

  /** The W3C trace state that belongs to `traceparent`. */
  get tracestate(): string {
    return this.#known.tracestate;
  }

  /** Names the event in the broker: `events/{position}`. Empty in a webhook, which does not say it. */
  get name(): string {
    return this.#known.name;
  }

  /** When the broker accepted it, to the millisecond. Absent in a webhook, which does not say it. */
  get acceptTime(): Date | undefined {
    return this.#known.acceptTime;
  }

  /** Identifies the event's way through gateways, oldest first. */
  get correlationIds(): readonly string[] {
    return this.#known.correlationIds;
  }

  /** All of it as a plain object. */
  toJSON(): EventOutline & EventFacts {
    const { type, orderingKey, attempt, traceparent } = this;
    return { type, orderingKey, attempt, traceparent, ...this.#known };
  }

  /** @internal So that `console.log(meta)` shows it. */
  [inspect.custom](): unknown {
    return this.toJSON();
  }

  get #known(): EventFacts {
    return (this.#facts ??= this.#read());
  }
}
