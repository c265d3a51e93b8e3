/**
 * The event types of messages: a message carries its event URI in its descriptor, in the options `certes.v1.schema` of its
 * file and `certes.v1.event` of itself.
 */

import { type DescMessage, getOption, hasOption } from "@bufbuild/protobuf";
import { event as eventOption, schema as schemaOption } from "../gen/certes/v1/options_pb.js";
import { CertesError } from "./errors.js";

/** What the options of a message and its file say. What is absent was not said. */
export interface Binding {
  readonly domain?: string | undefined;
  readonly namespace?: string | undefined;
  readonly version?: number | undefined;
  readonly name?: string | undefined;
}

/**
 * What a message's descriptor says of its event type. Raises `NOT_AN_EVENT_TYPE` where it has no option `certes.v1.event`.
 */
export function bindingOf(schema: DescMessage): Binding {
  if (!hasOption(schema, eventOption)) throw notAnEventType(schema.typeName, "it has no option certes.v1.event");
  const event = getOption(schema, eventOption);
  const file = hasOption(schema.file, schemaOption) ? getOption(schema.file, schemaOption) : undefined;
  return {
    // Explicit presence: what is not set is its default, which no well-formed schema can say.
    domain: file?.domain || undefined,
    namespace: file?.namespace || undefined,
    version: file?.version || undefined,
    name: event.name || undefined,
  };
}

/** Whether an event URI needs the broker's own domain, which discovery says. */
export function needsDomain(binding: Binding): boolean {
  return binding.domain === undefined;
}

/**
 * The event URI of a message. What its options leave out: the name is the message's in snake_case, the version the number
 * in the last part of the package or 1, the namespace `_`, the domain the broker's own.
 *
 * Raises `NOT_AN_EVENT_TYPE` where neither the options nor the broker say a domain.
 */
export function eventTypeOf(binding: Binding, packageName: string, message: string, brokerDomain: string): string {
  const domain = (binding.domain ?? brokerDomain).toLowerCase();
  if (domain === "") {
    throw notAnEventType(message, "its file has no option certes.v1.schema with a domain, and the broker does not say its own");
  }
  const version = binding.version ?? Number(/(?:^|\.)v([1-9][0-9]*)$/u.exec(packageName)?.[1] ?? 1);
  return `${domain}/${binding.namespace ?? "_"}/${version}/${binding.name ?? snakeCase(message)}`;
}

function notAnEventType(message: string, problem: string): CertesError {
  return new CertesError("INVALID_ARGUMENT", "NOT_AN_EVENT_TYPE", `${message} is no event type: ${problem}.`, {
    hint: "Take a message that has option (certes.v1.event).",
    metadata: { message },
  });
}

/** `MyEvent` is `my_event`, `HTTPRequest` is `http_request`. */
function snakeCase(name: string): string {
  return name
    .replace(/([a-z0-9])([A-Z])/gu, "$1_$2")
    .replace(/([A-Z])([A-Z][a-z])/gu, "$1_$2")
    .toLowerCase();
}
