/**
 * Trace context, taken from OpenTelemetry's API and put into it, where a program has that.
 *
 * It is looked for once, and not required: a program without it pays for nothing. Its state is global to the process
 * whatever copy of the API is loaded, so the copy that `require` finds does.
 */

import { createRequire } from "node:module";
import type * as OpenTelemetry from "@opentelemetry/api";

/** The trace context of an event. */
export interface TraceContext {
  readonly traceparent: string;
  readonly tracestate: string;
}

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/u;
const MOST_STATE_BYTES = 512;

const api = loadApi();

/** The context of the span that is current; nothing where there is none. */
export function currentTrace(): TraceContext | undefined {
  const context = api?.trace.getActiveSpan()?.spanContext();
  if (context === undefined || !api!.isSpanContextValid(context)) return undefined;
  const flags = (context.traceFlags & 0xff).toString(16).padStart(2, "0");
  const state = context.traceState?.serialize() ?? "";
  return {
    traceparent: `00-${context.traceId}-${context.spanId}-${flags}`,
    // What is too long is refused by the broker, and may be left out: "vendors MAY discard" (W3C Trace Context, 3.3.1.5).
    tracestate: Buffer.byteLength(state) <= MOST_STATE_BYTES ? state : "",
  };
}

/** Runs something with a trace context as the current one. A context that is malformed counts as none. */
export function withTrace<Result>(traceparent: string, tracestate: () => string, run: () => Result): Result {
  if (api === undefined || traceparent === "") return run();
  const parts = TRACEPARENT.exec(traceparent);
  if (parts === null) return run();
  const [, traceId, spanId, flags] = parts as unknown as [string, string, string, string];
  const state = tracestate();
  const remote: OpenTelemetry.SpanContext = {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16),
    isRemote: true,
    ...(state !== "" && { traceState: api.createTraceState(state) }),
  };
  return api.context.with(api.trace.setSpanContext(api.context.active(), remote), run);
}

/** Whether a program has OpenTelemetry's API. */
export const hasTracing = api !== undefined;

function loadApi(): typeof OpenTelemetry | undefined {
  try {
    return createRequire(import.meta.url)("@opentelemetry/api") as typeof OpenTelemetry;
  } catch {
    return undefined;
  }
}
