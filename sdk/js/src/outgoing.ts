/** What `publish` is called with, judged and written. */

import type { DescMessage, Message, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { bindingOf, eventTypeOf, needsDomain } from "./bindings.js";
import type { Span } from "./bytes_span.js";
import type { Clock } from "./clock.js";
import { writeEncoded } from "./encoding.js";
import { CertesError, fieldInvalid } from "./errors.js";
import { writeEvent } from "./event_bytes.js";
import { newEventId } from "./event_ids.js";
import { Call, judgeEventSize } from "./publish_calls.js";
import { isSchema, schemaOf } from "./registered_schemas.js";
import { currentTrace, hasTracing } from "./tracing.js";

/** What an event has beside its message. One of `subscriber` and `everyone` is required. */
export interface EventOptions {
  /** The one subscriber that may see it. */
  subscriber?: string;
  /** True: it is for every subscriber. */
  everyone?: boolean;
  /** What it is about within its source, such as a repository. */
  subject?: string;
  /** Events with the same key reach a subscription one after another, in the order of the calls. */
  orderingKey?: string;
  /** Identifies it within its source; a UUIDv7 by default. The same id is stored once. */
  id?: string;
  /** When what it reports happened; by default when the broker accepted it. */
  time?: Date;
  /** Who sends it, instead of the client's `source`. */
  source?: string;
  /** Further attributes: at most 64, with keys of `[a-z0-9_]`. */
  attributes?: Readonly<Record<string, string>>;
  /** A W3C trace context, instead of that of the current span. */
  traceparent?: string;
  /** The trace state that belongs to `traceparent`. */
  tracestate?: string;
}

/** When a call gives up. */
export interface CallOptions {
  /** After how many milliseconds; 60,000 by default. */
  timeout?: number;
  /** When it is aborted. */
  signal?: AbortSignal;
}

/** How an event is published. */
export interface PublishOptions extends EventOptions, CallOptions {}

/** One event of `publishAll`. */
export interface EventToPublish<Desc extends DescMessage = DescMessage> extends EventOptions {
  /** The schema of the message; may be left out where it was registered. */
  schema?: Desc;
  /** The message, or where the schema is given what `create` would make one of. */
  message: MessageShape<Desc> | MessageInitShape<Desc>;
}

/** The arguments of `publish`, told apart. */
export interface Publication {
  readonly schema: DescMessage;
  readonly message: unknown;
  readonly options: PublishOptions;
}

const TIMEOUT = 60_000;

/** How long a call is tried, in milliseconds. Raises `FIELD_INVALID`. */
export function timeoutOf({ timeout = TIMEOUT }: CallOptions): number {
  if (!(timeout >= 0)) throw fieldInvalid("timeout", "is no number of milliseconds");
  return timeout;
}

/** Tells `(schema, message, options)` from `(message, options)`. Raises `NOT_AN_EVENT_TYPE`. */
export function publicationOf(first: unknown, second: unknown, third: unknown): Publication {
  if (isSchema(first)) return { schema: first, message: second ?? {}, options: (third ?? {}) as PublishOptions };
  const typeName = (first as Partial<Message> | undefined)?.$typeName;
  if (typeof typeName !== "string") {
    throw fieldInvalid(
      "message",
      "is neither a schema nor a message; publish takes (schema, message, options) or (message, options)",
    );
  }
  return { schema: schemaOf(typeName), message: first, options: (second ?? {}) as PublishOptions };
}

/** What is the same for every event of a schema: to work it out costs more than to look it up. */
interface KnownType {
  readonly type: string;
  readonly brokerDomain: string;
}
const knownTypes = new WeakMap<DescMessage, KnownType>();

/** Whether the event type of a schema can be known only after the broker said its domain. */
export function needsBrokerDomain(schema: DescMessage): boolean {
  return !knownTypes.has(schema) && needsDomain(bindingOf(schema));
}

/** What a client says of its events. */
export interface Sender {
  readonly source: string | undefined;
  readonly brokerDomain: string;
  readonly clock: Clock;
}

/** Makes the call of `publish`. Raises what `writePublication` does, and `EVENT_TOO_LARGE`. */
export function makeCall(publication: Publication, sender: Sender): Call {
  const { id: given, orderingKey: key = "" } = publication.options;
  const timeout = timeoutOf(publication.options);
  const { id, span } = writePublication(publication, sender);
  judgeEventSize(span.end - span.start);
  return new Call({ id, span, key, deadline: sender.clock.now() + timeout, wantsResult: given !== undefined });
}

/** Judges and writes an event. Raises `AUDIENCE_MISSING`, `APP_MISSING`, `NOT_AN_EVENT_TYPE` or `FIELD_INVALID`. */
export function writePublication(
  { schema, message, options }: Publication,
  { source, brokerDomain, clock }: Sender,
): { readonly id: string; readonly span: Span } {
  const { subscriber, everyone = false, orderingKey = "" } = options;
  checkAudience(subscriber, everyone);
  checkTexts(options);
  const from = options.source ?? source;
  if (from === undefined) throw sourceMissing();
  const id = options.id ?? newEventId(clock.now());
  const trace = options.traceparent === undefined && hasTracing ? currentTrace() : undefined;
  const span = writeEvent({
    id,
    type: typeOf(schema, brokerDomain),
    source: from,
    subject: options.subject,
    time: options.time,
    typeName: schema.typeName,
    writeData: (writer) => writeEncoded(writer, schema, message as MessageInitShape<DescMessage>),
    subscriber,
    everyone,
    orderingKey,
    attributes: options.attributes,
    traceparent: options.traceparent ?? trace?.traceparent,
    tracestate: options.traceparent === undefined ? trace?.tracestate : options.tracestate,
  });
  return { id, span };
}

function typeOf(schema: DescMessage, brokerDomain: string): string {
  const known = knownTypes.get(schema);
  if (known !== undefined && known.brokerDomain === brokerDomain) return known.type;
  const type = eventTypeOf(bindingOf(schema), schema.file.proto.package, schema.name, brokerDomain);
  knownTypes.set(schema, { type, brokerDomain });
  return type;
}

function checkAudience(subscriber: string | undefined, everyone: boolean): void {
  if (typeof everyone !== "boolean") throw fieldInvalid("everyone", "is no boolean");
  if (subscriber !== undefined && typeof subscriber !== "string") throw fieldInvalid("subscriber", "is no text");
  if (everyone && subscriber !== undefined) throw fieldInvalid("subscriber", "is given, and the event is for everyone");
  if (everyone || subscriber) return;
  throw new CertesError("INVALID_ARGUMENT", "AUDIENCE_MISSING", "The event is for nobody: it has no subscriber's id.", {
    hint: "Give the subscriber's id, or everyone: true.",
    metadata: { field: "subscriber" },
  });
}

/** One by one: to go through a list of their names would cost as much as to write the event. */
function checkTexts(options: EventOptions): void {
  const { subject, orderingKey, id, source, traceparent, tracestate } = options;
  if (subject !== undefined) checkText("subject", subject);
  if (orderingKey !== undefined) checkText("orderingKey", orderingKey);
  if (id !== undefined) checkText("id", id);
  if (source !== undefined) checkText("source", source);
  if (traceparent !== undefined) checkText("traceparent", traceparent);
  if (tracestate !== undefined) checkText("tracestate", tracestate);
  const { time, attributes } = options;
  if (time !== undefined && !(time instanceof Date && !Number.isNaN(time.getTime())))
    throw fieldInvalid("time", "is no valid Date");
  if (attributes !== undefined) for (const name in attributes) checkText(`attributes.${name}`, attributes[name]);
}

function checkText(name: string, value: unknown): void {
  if (typeof value !== "string" || !value.isWellFormed()) throw fieldInvalid(name, "is no well-formed text");
}

function sourceMissing(): CertesError {
  return new CertesError("FAILED_PRECONDITION", "APP_MISSING", "Events have a source, and the client has none.", {
    hint: "Give init the name of the application (app, CERTES_APP) or the source (source, CERTES_SOURCE).",
  });
}
