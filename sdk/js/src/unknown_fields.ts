/** Finds fields that a message's descriptor does not know. */

import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";

interface Holder {
  readonly name: string;
  readonly oneof: string | undefined;
  readonly kind: "one" | "list" | "map";
  readonly schema: DescMessage;
}

const holders = new WeakMap<DescMessage, readonly Holder[]>();

/** Whether a decoded message, or one within it, has unknown fields. */
export function hasUnknownFields(schema: DescMessage, message: Message): boolean {
  if ((message.$unknown?.length ?? 0) > 0) return true;
  for (const { name, oneof, kind, schema: inner } of holdersOf(schema)) {
    const value = valueOf(message as unknown as Record<string, unknown>, name, oneof);
    if (value === undefined) continue;
    const messages = kind === "one" ? [value] : kind === "list" ? (value as unknown[]) : Object.values(value as object);
    // The library has some of Google's messages as what they hold: those have no fields to be unknown.
    if (messages.some((one) => isMessageLike(one) && hasUnknownFields(inner, one))) return true;
  }
  return false;
}

function isMessageLike(value: unknown): value is Message {
  return typeof value === "object" && value !== null && "$typeName" in value;
}

function valueOf(message: Record<string, unknown>, name: string, oneof: string | undefined): unknown {
  if (oneof === undefined) return message[name];
  const chosen = message[oneof] as { case?: string; value?: unknown };
  return chosen.case === name ? chosen.value : undefined;
}

function holdersOf(schema: DescMessage): readonly Holder[] {
  let found = holders.get(schema);
  if (found === undefined) {
    found = schema.fields.map(holderOf).filter((holder) => holder !== undefined);
    holders.set(schema, found);
  }
  return found;
}

function holderOf(field: DescField): Holder | undefined {
  const { localName: name } = field;
  const oneof = field.oneof?.localName;
  switch (field.fieldKind) {
    case "message":
      return { name, oneof, kind: "one", schema: field.message };
    case "list":
      return field.listKind === "message" ? { name, oneof, kind: "list", schema: field.message } : undefined;
    case "map":
      return field.mapKind === "message" ? { name, oneof, kind: "map", schema: field.message } : undefined;
    default:
      return undefined;
  }
}
