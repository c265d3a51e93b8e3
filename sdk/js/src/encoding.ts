/**
 * Encodes messages for the wire, several times as fast as the library does.
 *
 * Rules
 * -----
 * * The bytes are those of the library's `toBinary`, to the last one: fields in the order of their numbers.
 * * A message need not be made before it is encoded: what `create` takes will do, and costs less, since only what is there
 *   is looked at. A message that was made has all its fields, and a schema of GitHub has hundreds of them.
 * * What is unusual (groups, defaults of proto2, wrappers, `Struct`, maps) is left to the library, field by field.
 * * A value that does not fit its field is refused, with the field's path. The library would write something.
 */

import {
  create,
  type DescField,
  type DescMessage,
  type DescOneof,
  type MessageInitShape,
  type MessageShape,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { Edition } from "@bufbuild/protobuf/wkt";
import { fieldInvalid, textOf } from "./errors.js";
import type { WireWriter } from "./wire_writer.js";

/** Writes the value of one field, backwards, with its tag. The value is there, and is none that is left out. */
type WriteField = (writer: WireWriter, value: unknown) => void;

/**
 * Which value of a field is left out, since it cannot be told from absence. Numbers: to switch by them costs less than to
 * call.
 */
const enum Default {
  None,
  Zero,
  PositiveZero,
  False,
  EmptyText,
  EmptyList,
}

interface FieldPlan {
  readonly name: string;
  readonly number: number;
  readonly default: Default;
  readonly write: WriteField;
}

/** A member of a message as its objects have it: a field, or a oneof with the fields that it may be. */
interface Member {
  readonly name: string;
  readonly field: FieldPlan | undefined;
  readonly cases: ReadonlyMap<string, FieldPlan> | undefined;
}

interface MessagePlan {
  readonly typeName: string;
  /** By descending number, which is the order of writing. */
  readonly members: readonly Member[];
  readonly hasOneofs: boolean;
  readonly byName: ReadonlyMap<string, Member>;
}

type Fields = Record<string, unknown>;

/** A value does not fit; `path` grows on the way out. */
class Unfit extends Error {
  path = "";
}

const plans = new WeakMap<DescMessage, MessagePlan>();

/**
 * Writes a message, or what `create` would make one of; before what was written before.
 *
 * Raises `FIELD_INVALID` where a value does not fit its field.
 */
export function writeEncoded<Desc extends DescMessage>(
  to: WireWriter,
  schema: Desc,
  message: MessageShape<Desc> | MessageInitShape<Desc>,
): void {
  try {
    writeMessage(planOf(schema), to, message as Fields);
  } catch (error) {
    if (!(error instanceof Unfit)) throw error;
    throw fieldInvalid(`message${error.path}`, `does not fit into a ${schema.typeName}: ${error.message}`);
  }
}

function planOf(schema: DescMessage): MessagePlan {
  let plan = plans.get(schema);
  if (plan === undefined) {
    const members: Member[] = [];
    const byName = new Map<string, Member>();
    plan = { typeName: schema.typeName, members, hasOneofs: schema.oneofs.length > 0, byName };
    // Before its fields are looked at, for a message may be within itself.
    plans.set(schema, plan);
    for (const member of schema.members) {
      const made = planMember(member);
      byName.set(made.name, made);
      members.push(made);
    }
    members.sort((a, b) => numberOf(b) - numberOf(a));
  }
  return plan;
}

function planMember(member: DescField | DescOneof): Member {
  if (member.kind === "field") return { name: member.localName, field: planField(member), cases: undefined };
  const cases = new Map(member.fields.map((field) => [field.localName, planField(field)]));
  return { name: member.localName, field: undefined, cases };
}

/** Of a oneof it is of no account: a message with one is sorted anew. */
function numberOf(member: Member): number {
  return member.field?.number ?? Math.min(...[...member.cases!.values()].map(({ number }) => number));
}

function writeMessage(plan: MessagePlan, to: WireWriter, message: Fields): void {
  if (typeof message !== "object" || message === null) throw new Unfit("it is no message");
  const made = "$typeName" in message;
  if (made && message["$typeName"] !== plan.typeName) throw new Unfit(`it is a ${String(message["$typeName"])}`);
  if (made) {
    writeUnknown(to, message["$unknown"]);
    if (!plan.hasOneofs) return writeAll(plan, to, message);
  }
  writeSome(plan, to, message);
}

/** Writes a message that has all its members, none of which is a oneof: that could spoil the order. */
function writeAll(plan: MessagePlan, to: WireWriter, message: Fields): void {
  for (const { name, field } of plan.members) {
    const value = message[name];
    if (value === undefined || isLeftOut(field!.default, value) || !Object.hasOwn(message, name)) continue;
    writeField(field!, to, value);
  }
}

function writeField(field: FieldPlan, to: WireWriter, value: unknown): void {
  try {
    field.write(to, value);
  } catch (error) {
    const unfit = error instanceof Unfit ? error : new Unfit(error instanceof Error ? error.message : textOf(error));
    unfit.path = `.${field.name}${unfit.path}`;
    throw unfit;
  }
}

/** Writes what is there, which is to be sorted first. */
function writeSome(plan: MessagePlan, to: WireWriter, message: Fields): void {
  const fields: FieldPlan[] = [];
  const values: unknown[] = [];
  for (const name in message) {
    const member = plan.byName.get(name);
    if (member === undefined || !Object.hasOwn(message, name)) continue;
    let field = member.field;
    let value = message[name];
    if (value === undefined || value === null) continue;
    if (field === undefined) {
      const chosen = value as { case?: string; value?: unknown };
      if (chosen.case === undefined) continue;
      field = member.cases!.get(chosen.case);
      value = chosen.value;
      if (field === undefined || value === undefined) throw new Unfit(`${name} is none of its cases, or has no value`);
    } else if (isLeftOut(field.default, value)) continue;
    let at = fields.length;
    for (; at > 0 && fields[at - 1]!.number < field.number; at -= 1) {
      fields[at] = fields[at - 1]!;
      values[at] = values[at - 1];
    }
    fields[at] = field;
    values[at] = value;
  }
  for (let index = 0; index < fields.length; index += 1) writeField(fields[index]!, to, values[index]);
}

interface UnknownField {
  readonly no: number;
  readonly wireType: number;
  readonly data: Uint8Array;
}

function writeUnknown(to: WireWriter, unknown: unknown): void {
  for (const { no, wireType, data } of ((unknown as UnknownField[] | undefined) ?? []).toReversed()) {
    to.raw(data);
    to.varint(no * 8 + wireType);
  }
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
const INT32 = { least: -(2 ** 31), most: 2 ** 31 - 1 };
const UINT32 = { least: 0, most: 2 ** 32 - 1 };

function planField(field: DescField): FieldPlan {
  const { localName: name, number } = field;
  const plain = isPlain(field) ? plainWriter(field) : undefined;
  if (plain === undefined) return { name, number, default: Default.None, write: libraryWriter(field) };
  return { name, number, default: defaultOf(field), write: plain };
}

/** Whether a field has neither defaults nor encodings but those of proto3. */
function isPlain(field: DescField): boolean {
  if (field.parent.file.edition !== Edition.EDITION_PROTO3) return false;
  const message =
    field.fieldKind === "message" || field.fieldKind === "list" || field.fieldKind === "map" ? field.message : undefined;
  if (message === undefined) return true;
  // The library has these as what they hold.
  return !/^google\.protobuf\.(?:\w+Value|Struct|ListValue)$/u.test(message.typeName);
}

function plainWriter(field: DescField): WriteField | undefined {
  switch (field.fieldKind) {
    case "scalar":
      return scalarField(field.number, field.scalar);
    case "enum":
      return scalarField(field.number, ScalarType.INT32);
    case "message":
      return messageField(field.number, field.message);
    case "list":
      return listField(field);
    case "map":
      return undefined;
  }
}

/** Leaves a field to the library: as the only one of a message, whose bytes are the field's. */
function libraryWriter(field: DescField): WriteField {
  return (to, value) => {
    const only = field.oneof ? { [field.oneof.localName]: { case: field.localName, value } } : { [field.localName]: value };
    to.raw(toBinary(field.parent, create(field.parent, only as MessageInitShape<DescMessage>)));
  };
}

function isLeftOut(kind: Default, value: unknown): boolean {
  switch (kind) {
    case Default.None:
      return false;
    case Default.Zero:
      return value === 0 || value === 0n;
    case Default.PositiveZero:
      return Object.is(value, 0);
    case Default.False:
      return value === false;
    case Default.EmptyText:
      return value === "";
    case Default.EmptyList:
      // Bytes are a list here, and a text is none.
      return typeof value === "object" && value !== null && (value as ArrayLike<unknown>).length === 0;
  }
}

function defaultOf(field: DescField): Default {
  if (field.oneof !== undefined || field.fieldKind === "message" || (field.proto.proto3Optional ?? false)) return Default.None;
  if (field.fieldKind === "list") return Default.EmptyList;
  switch (field.fieldKind === "scalar" ? field.scalar : ScalarType.INT32) {
    case ScalarType.STRING:
      return Default.EmptyText;
    case ScalarType.BOOL:
      return Default.False;
    case ScalarType.BYTES:
      return Default.EmptyList;
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return Default.PositiveZero;
    default:
      return Default.Zero;
  }
}

function messageField(number: number, schema: DescMessage): WriteField {
  const tag = number * 8 + BYTES;
  let plan: MessagePlan | undefined;
  return (to, value) => {
    const before = to.written;
    writeMessage((plan ??= planOf(schema)), to, value as Fields);
    to.varint(to.written - before);
    to.varint(tag);
  };
}

function listField(field: DescField & { fieldKind: "list" }): WriteField {
  if (field.listKind === "message") return eachOf(messageField(field.number, field.message));
  const type = field.listKind === "enum" ? ScalarType.INT32 : field.scalar;
  if (!field.packed) return eachOf(scalarField(field.number, type));
  const { write } = scalarValue(type);
  const tag = field.number * 8 + BYTES;
  return (to, value) => {
    const before = to.written;
    for (const element of backwards(value)) write(to, element);
    to.varint(to.written - before);
    to.varint(tag);
  };
}

function eachOf(write: WriteField): WriteField {
  return (to, value) => {
    for (const element of backwards(value)) write(to, element);
  };
}

function backwards(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new Unfit("it is no list");
  return value.length > 1 ? value.toReversed() : value;
}

function scalarField(number: number, type: ScalarType): WriteField {
  const { wireType, write } = scalarValue(type);
  const tag = number * 8 + wireType;
  return (to, value) => {
    write(to, value);
    to.varint(tag);
  };
}

function scalarValue(type: ScalarType): { wireType: number; write: WriteField } {
  switch (type) {
    case ScalarType.STRING:
      return { wireType: BYTES, write: (to, value) => to.text(typeof value === "string" ? value : unfit("text")) };
    case ScalarType.BYTES:
      return { wireType: BYTES, write: (to, value) => to.bytes(value instanceof Uint8Array ? value : unfit("Uint8Array")) };
    case ScalarType.BOOL:
      return { wireType: VARINT, write: (to, value) => to.varint(typeof value === "boolean" ? Number(value) : unfit("boolean")) };
    case ScalarType.INT32:
      return { wireType: VARINT, write: (to, value) => writeInt32(to, integer(value, INT32)) };
    case ScalarType.UINT32:
      return { wireType: VARINT, write: (to, value) => to.varint(integer(value, UINT32)) };
    case ScalarType.SINT32:
      return { wireType: VARINT, write: (to, value) => to.varint(zigzag32(integer(value, INT32))) };
    case ScalarType.FIXED32:
      return { wireType: FIXED32, write: (to, value) => to.fixed32(integer(value, UINT32)) };
    case ScalarType.SFIXED32:
      return { wireType: FIXED32, write: (to, value) => to.fixed32(integer(value, INT32)) };
    case ScalarType.INT64:
      return { wireType: VARINT, write: (to, value) => to.varint64(long(value, 63n, true)) };
    case ScalarType.UINT64:
      return { wireType: VARINT, write: (to, value) => to.varint64(long(value, 64n, false)) };
    case ScalarType.SINT64:
      return { wireType: VARINT, write: (to, value) => to.varint64(zigzag64(long(value, 63n, true))) };
    case ScalarType.FIXED64:
      return { wireType: FIXED64, write: (to, value) => to.fixed64(long(value, 64n, false)) };
    case ScalarType.SFIXED64:
      return { wireType: FIXED64, write: (to, value) => to.fixed64(long(value, 63n, true)) };
    case ScalarType.FLOAT:
      return { wireType: FIXED32, write: (to, value) => to.float(float(value)) };
    case ScalarType.DOUBLE:
      return { wireType: FIXED64, write: (to, value) => to.double(typeof value === "number" ? value : unfit("number")) };
  }
}

function writeInt32(to: WireWriter, value: number): void {
  if (value >= 0) to.varint(value);
  else to.varint64(BigInt(value));
}

function integer(value: unknown, { least, most }: { least: number; most: number }): number {
  return typeof value === "number" && Number.isInteger(value) && value >= least && value <= most
    ? value
    : unfit("whole number of 32 bits");
}

function float(value: unknown): number {
  // Beyond what four bytes hold only the infinities and NaN are floats.
  if (typeof value !== "number" || (Number.isFinite(value) && !Number.isFinite(Math.fround(value))))
    return unfit("number of a float's size");
  return value;
}

function long(value: unknown, bits: bigint, signed: boolean): bigint {
  const isWhole =
    typeof value === "number" ? Number.isSafeInteger(value) : typeof value === "bigint" || /^-?[0-9]+$/u.test(String(value));
  if (!isWhole || !["number", "bigint", "string"].includes(typeof value)) return unfit("whole number of 64 bits");
  const whole = BigInt(value as number | bigint | string);
  if (whole >= 1n << bits || whole < (signed ? -(1n << bits) : 0n)) return unfit("whole number of 64 bits");
  return whole;
}

function zigzag32(value: number): number {
  return ((value << 1) ^ (value >> 31)) >>> 0;
}

function zigzag64(value: bigint): bigint {
  return BigInt.asUintN(64, (value << 1n) ^ (value >> 63n));
}

function unfit(wanted: string): never {
  throw new Unfit(`it is no ${wanted}`);
}
