/**
 * The descriptors of event types, as the broker has them, and messages decoded by them.
 *
 * One answer of `GetSchema` has the descriptors of a whole version (domain, namespace, major version), so that is what is
 * kept, and fetched once however many events wait for it. It is fetched again when an event has fields that it does not
 * know, or does not decode, for the broker may have a newer revision; but at most once a minute, for an event may also be
 * older, or broken.
 */

import {
  type DescMessage,
  type FileRegistry,
  fromBinary,
  fromJson,
  hasOption,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { RawContentSchema } from "../gen/certes/v1/event_pb.js";
import { event as eventOption } from "../gen/certes/v1/options_pb.js";
import { bindingOf, eventTypeOf } from "./bindings.js";
import type { Clock } from "./clock.js";
import type { Content } from "./deliveries.js";
import { CertesError, textOf } from "./errors.js";
import { hasUnknownFields } from "./unknown_fields.js";

/** Asks the broker for the files of an event type's version. Raises `UNKNOWN_EVENT_TYPE` if there is no such type. */
export type FetchSchema = (type: string) => Promise<FileRegistry>;

const AGAIN_AFTER = 60_000;
const MOST_KEPT = 1000;

interface Version {
  readonly files: FileRegistry;
  /** The messages of its event types. */
  readonly types: ReadonlyMap<string, DescMessage>;
  readonly fetchedAt: number;
}

/** What an event type was met with last. To look it up costs less than to find it. */
interface Met {
  readonly typeName: string;
  readonly schema: DescMessage;
  readonly version: Version;
}

interface Refusal {
  readonly error: CertesError;
  readonly fetchedAt: number;
}

/** Descriptors that were fetched. */
export class Schemas {
  readonly #fetch: FetchSchema;
  readonly #clock: Clock;
  readonly #versions = new Map<string, Version>();
  readonly #met = new Map<string, Met>();
  readonly #refused = new Map<string, Refusal>();
  readonly #fetching = new Map<string, Promise<Version>>();

  constructor(fetch: FetchSchema, clock: Clock) {
    this.#fetch = fetch;
    this.#clock = clock;
  }

  /**
   * Decodes the content of an event: at once where its descriptor is known, else as a promise.
   *
   * Raises `DATA_MALFORMED`, `DATA_TYPE_MISMATCH`, and what fetching a schema does.
   */
  decode(type: string, content: Content): Message | Promise<Message> {
    if (content.typeName === undefined) return decoding(type, () => fromBinary(RawContentSchema, content.value));
    let met = this.#met.get(type);
    if (met?.typeName !== content.typeName) met = this.#meet(type, content.typeName);
    if (met === undefined) return this.#decodeAnew(type, content.typeName, content.value);
    const isFresh = !this.#isDue(met.version);
    try {
      const message = fromBinary(met.schema, content.value);
      if (isFresh || !hasUnknownFields(met.schema, message)) return message;
    } catch (error) {
      if (isFresh) throw malformedData(type, error);
    }
    return this.#decodeAnew(type, content.typeName, content.value);
  }

  /**
   * Reads the content of an event from JSON; fields that its message does not know are left out. Nothing if it has no
   * schema.
   */
  async read(type: string, json: JsonValue): Promise<Message | undefined> {
    const known = this.#versions.get(versionOf(type));
    const schema = known?.types.get(type);
    if (known !== undefined && schema !== undefined && this.#isDue(known)) {
      // What it does not know would be left out in silence, so it is first asked whether it knows all.
      try {
        return fromJson(schema, json, { registry: known.files });
      } catch {
        // Decided by descriptors that are as new as they can be, below.
      }
    }
    const version = await this.#refreshed(type).catch((error: unknown) => {
      if (error instanceof CertesError && error.reason === "UNKNOWN_EVENT_TYPE") return undefined;
      throw error;
    });
    const newest = version?.types.get(type);
    if (version === undefined || newest === undefined) return undefined;
    return decoding(type, () => fromJson(newest, json, { registry: version.files, ignoreUnknownFields: true }));
  }

  #meet(type: string, typeName: string): Met | undefined {
    const version = this.#versions.get(versionOf(type));
    const schema = version?.files.getMessage(typeName);
    if (version === undefined || schema === undefined) return undefined;
    const met = { typeName, schema, version };
    keep(this.#met, type, met);
    return met;
  }

  async #decodeAnew(type: string, typeName: string, value: Uint8Array): Promise<Message> {
    const { files } = await this.#refreshed(type);
    const schema = files.getMessage(typeName);
    if (schema !== undefined) return decoding(type, () => fromBinary(schema, value));
    const message = `An event of ${type} holds a ${typeName}, which is no message of its version.`;
    throw new CertesError("INVALID_ARGUMENT", "DATA_TYPE_MISMATCH", message, { metadata: { type, message: typeName } });
  }

  /** The version of an event type, as new as it can be. */
  async #refreshed(type: string): Promise<Version> {
    const key = versionOf(type);
    for (;;) {
      const known = this.#versions.get(key);
      if (known !== undefined && !this.#isDue(known)) return known;
      const refused = this.#refused.get(type);
      if (refused !== undefined && !this.#isDue(refused)) throw refused.error;
      const fetching = this.#fetching.get(key);
      if (fetching === undefined) break;
      // Another type of the version may be refused, which says nothing of this one.
      await fetching.catch((error: unknown) => {
        if (!isFinal(error)) throw error;
      });
    }
    const fetching = this.#fetchVersion(type, key).finally(() => this.#fetching.delete(key));
    this.#fetching.set(key, fetching);
    return fetching;
  }

  async #fetchVersion(type: string, key: string): Promise<Version> {
    try {
      const files = await this.#fetch(type);
      const version = { files, types: typesOf(files), fetchedAt: this.#clock.now() };
      keep(this.#versions, key, version);
      this.#met.clear();
      return version;
    } catch (error) {
      if (isFinal(error)) keep(this.#refused, type, { error, fetchedAt: this.#clock.now() });
      throw error;
    }
  }

  #isDue({ fetchedAt }: { readonly fetchedAt: number }): boolean {
    return this.#clock.now() - fetchedAt >= AGAIN_AFTER;
  }
}

function isFinal(error: unknown): error is CertesError {
  return error instanceof CertesError && !error.retryable;
}

function keep<Value>(kept: Map<string, Value>, key: string, value: Value): void {
  if (kept.size >= MOST_KEPT && !kept.has(key)) kept.clear();
  kept.set(key, value);
}

/** The broker completes the options of what it registers, so a file says all of its event types. */
function typesOf(files: FileRegistry): ReadonlyMap<string, DescMessage> {
  const types = new Map<string, DescMessage>();
  for (const schema of files) {
    if (schema.kind !== "message" || !hasOption(schema, eventOption)) continue;
    const binding = bindingOf(schema);
    if (binding.domain !== undefined) types.set(eventTypeOf(binding, schema.file.proto.package, schema.name, ""), schema);
  }
  return types;
}

/** `community.certes.dev/github/1` of `community.certes.dev/github/1/push`. */
function versionOf(type: string): string {
  return type.slice(0, type.lastIndexOf("/"));
}

function decoding(type: string, decode: () => Message): Message {
  try {
    return decode();
  } catch (error) {
    throw malformedData(type, error);
  }
}

function malformedData(type: string, cause: unknown): CertesError {
  const message = `The data of an event of ${type} does not decode: ${cause instanceof Error ? cause.message : textOf(cause)}`;
  return new CertesError("INVALID_ARGUMENT", "DATA_MALFORMED", message, { metadata: { type }, cause });
}
