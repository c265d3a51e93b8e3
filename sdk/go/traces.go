package certes

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const maximumTracestate = 512

// withTraceOf makes an event's trace context the current one.
func withTraceOf(ctx context.Context, raw *RawEvent) context.Context {
	if raw.Traceparent == "" {
		return ctx
	}
	carrier := propagation.MapCarrier{"traceparent": raw.Traceparent}
	if raw.Tracestate != "" {
		carrier["tracestate"] = raw.Tracestate
	}
	return propagation.TraceContext{}.Extract(ctx, carrier)
}

// traceOf returns the trace context of the span that is current; empty where none is.
func traceOf(ctx context.Context) (traceparent, tracestate string) {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return "", ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	traceparent, tracestate = carrier["traceparent"], carrier["tracestate"]
	if len(tracestate) > maximumTracestate {
		tracestate = "" // which the broker would refuse; W3C lets it be left out
	}
	return traceparent, tracestate
}
