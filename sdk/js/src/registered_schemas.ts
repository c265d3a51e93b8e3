/**
 * Schemas by the names of their messages.
 *
 * A message of protobuf-es carries its name and not its schema, which has the event URI and the encoding. So a message
 * alone can be published only where its schema was registered. Names of messages are the same for all clients of a process,
 * and so is this.
 */

import type { DescFile, DescMessage } from "@bufbuild/protobuf";
import { CertesError } from "./errors.js";

/** A schema, a generated file, or a module of them, such as `github` of `@certes/contrib`. */
export type Registrable = DescMessage | DescFile | object;

const schemas = new Map<string, DescMessage>();

/** Lets messages be published without their schema beside them. Takes schemas, generated files, and modules of either. */
export function register(...those: readonly Registrable[]): void {
  for (const one of those) add(one, 0);
}

/** The schema of a message. Raises `NOT_AN_EVENT_TYPE` if it was not registered. */
export function schemaOf(typeName: string): DescMessage {
  const schema = schemas.get(typeName);
  if (schema !== undefined) return schema;
  const short = typeName.slice(typeName.lastIndexOf(".") + 1);
  throw new CertesError(
    "INVALID_ARGUMENT",
    "NOT_AN_EVENT_TYPE",
    `The schema of ${typeName} is not known: a message does not carry it.`,
    {
      hint: `Give it before the message, as in publish(${short}Schema, message, …), or call register(${short}Schema) once.`,
      metadata: { message: typeName },
    },
  );
}

/** Whether a value is the schema of a message. */
export function isSchema(value: unknown): value is DescMessage {
  return isObject(value) && value["kind"] === "message" && typeof value["typeName"] === "string" && Array.isArray(value["fields"]);
}

/** Modules of modules of schemas is as deep as it gets. */
const DEEPEST = 2;

function add(one: unknown, depth: number): void {
  if (isSchema(one)) schemas.set(one.typeName, one);
  else if (isObject(one) && one["kind"] === "file")
    for (const schema of (one as unknown as DescFile).messages) schemas.set(schema.typeName, schema);
  else if (isObject(one) && depth < DEEPEST) for (const value of Object.values(one)) add(value, depth + 1);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
