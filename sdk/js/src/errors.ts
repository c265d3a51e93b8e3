/**
 * The one error type, and how it is read from what the broker says.
 *
 * Programs switch on `reason`, never on a text. A status has all of it in `google.rpc.ErrorInfo`, `BadRequest` and
 * `RetryInfo`; a refusal of one request on a stream has it in `certes.v1.Problem`.
 */

import type { Problem } from "../gen/certes/v1/problem_pb.js";
import { type CodeName, codeName, type RpcStatus } from "./rpc_status.js";

/** One field at fault. */
export interface FieldViolation {
  /** The path of the field in the request, such as `events[3].type`. */
  readonly field: string;
  /** What is wrong with it. */
  readonly description: string;
}

/** What an error is made of, beside its code, reason and message. */
export interface ErrorDetails {
  readonly hint?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  readonly retryAfter?: number | undefined;
  readonly cause?: unknown;
}

const RETRYABLE: ReadonlySet<string> = new Set<CodeName>(["UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED"]);

/** Says that something was refused or failed. The only error that this package raises. */
export class CertesError extends Error {
  /** The canonical name of the code, such as `INVALID_ARGUMENT`. */
  readonly code: CodeName;
  /** The stable reason, such as `AUDIENCE_MISSING`: what programs switch on. */
  readonly reason: string;
  /** What to do, for a person. May be empty. */
  readonly hint: string;
  /** Facts for programs, such as limits and names. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields at fault. Empty if no field is. */
  readonly violations: readonly FieldViolation[];
  /** How long to wait before trying again, in seconds, where the broker said it. */
  readonly retryAfter: number | undefined;

  constructor(code: CodeName, reason: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.reason = reason;
    this.hint = details.hint ?? "";
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
    this.retryAfter = details.retryAfter;
  }

  override get name(): string {
    return "CertesError";
  }

  /** Whether the same may succeed when it is tried again. */
  get retryable(): boolean {
    return RETRYABLE.has(this.code);
  }

  /** The text of the error: `REASON: message`. */
  override toString(): string {
    return `${this.reason}: ${this.message}`;
  }
}

/** Refuses an argument: `INVALID_ARGUMENT` / `FIELD_INVALID`, with the field's name in the metadata. */
export function fieldInvalid(field: string, problem: string): CertesError {
  const message = `${field} ${problem}`;
  return new CertesError("INVALID_ARGUMENT", "FIELD_INVALID", message, {
    metadata: { field },
    violations: [{ field, description: problem }],
  });
}

/** Reads a status of gRPC, with what was read of its details. A status without `ErrorInfo` has its code as its reason. */
export function errorOfStatus(status: RpcStatus, cause?: unknown): CertesError {
  const code = codeName(status.code);
  return refusal(code, status.reason || code, status.message, {
    metadata: status.metadata,
    violations: status.violations,
    retryAfter: status.retryAfter,
    cause,
  });
}

/** Reads the refusal of one request of a stream. */
export function errorOfProblem(problem: Problem): CertesError {
  const code = codeName(problem.code);
  const delay = problem.retryDelay;
  return refusal(code, problem.reason || code, problem.message, {
    metadata: problem.metadata,
    violations: problem.fieldViolations.map(({ field, description }) => ({ field, description })),
    retryAfter: delay && Number(delay.seconds) + delay.nanos / 1e9,
  });
}

/** Makes an error of whatever was raised; a `CertesError` stays itself. */
export function asCertesError(raised: unknown): CertesError {
  if (raised instanceof CertesError) return raised;
  return new CertesError("UNKNOWN", "UNKNOWN", textOf(raised), { cause: raised });
}

/** The text of whatever was raised, which need be no error at all, and whose text may itself raise. */
export function textOf(raised: unknown): string {
  try {
    return String(raised);
  } catch {
    return "something that has no text was raised";
  }
}

function refusal(code: CodeName, reason: string, message: string, details: ErrorDetails): CertesError {
  const { hint = "", ...metadata } = details.metadata ?? {};
  return new CertesError(code, reason, message, { ...details, hint, metadata });
}
