package certes

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

func TestToReadsOnlyTheMessageOfTheEventsType(t *testing.T) {
	wire := mustMarshal(t, done(t, "hello"))
	for why, v := range map[string]struct {
		raw     RawEvent
		message proto.Message
		reason  string
	}{
		"its own, as protobuf":   {RawEvent{Type: doneType, ContentType: contentProtobuf, DataType: doneMessage, Data: wire}, done(t, ""), ""},
		"its own, as JSON":       {RawEvent{Type: doneType, ContentType: contentJSON, Data: []byte(`{"note":"hello","x":[]}`)}, done(t, ""), ""},
		"made by hand":           {RawEvent{Type: doneType, ContentType: contentProtobuf, Data: wire}, done(t, ""), ""},
		"another type":           {RawEvent{Type: "d.example/test/2/done", ContentType: contentProtobuf, DataType: doneMessage, Data: wire}, done(t, ""), ReasonDataTypeMismatch},
		"another message":        {RawEvent{Type: doneType, ContentType: contentProtobuf, DataType: "test.v1.Other", Data: wire}, done(t, ""), ReasonDataTypeMismatch},
		"no event":               {RawEvent{Type: doneType, ContentType: contentProtobuf, Data: wire}, &certesv1.Problem{}, ReasonNotAnEventType},
		"garbage":                {RawEvent{Type: doneType, ContentType: contentProtobuf, DataType: doneMessage, Data: []byte("\x0a\xff")}, done(t, ""), ReasonDataMalformed},
		"JSON of another form":   {RawEvent{Type: doneType, ContentType: contentJSON, Data: []byte(`{"note":1}`)}, done(t, ""), ReasonDataMalformed},
		"no JSON":                {RawEvent{Type: doneType, ContentType: contentJSON}, done(t, ""), ReasonDataMalformed},
		"without a schema":       {RawEvent{Type: doneType, ContentType: "text/plain", Data: []byte("x"), Untyped: true}, done(t, ""), ReasonRawContent},
		"nothing to read it as":  {RawEvent{Type: doneType}, nil, ReasonFieldInvalid},
		"the broker's own, told": {RawEvent{Type: versionType, ContentType: contentProtobuf}, &certesv1.VersionUpdate{}, ""},
	} {
		if err := v.raw.To(v.message); ReasonOf(err) != v.reason {
			t.Errorf("%s: %v; wanted %q", why, err, v.reason)
		} else if err == nil && v.message.ProtoReflect().Descriptor().FullName() == doneMessage && noteOf(v.message) != "hello" {
			t.Errorf("%s: it is read as %v", why, v.message)
		}
	}
}

func TestToComparesWithTheBrokersDomainWhereTheMessageNamesNone(t *testing.T) {
	raw := &RawEvent{Type: "elsewhere.example/_/1/_version", ContentType: contentProtobuf, brokerDomain: func() string { return brokerDomain }}
	err := raw.To(&certesv1.VersionUpdate{})
	if ReasonOf(err) != ReasonDataTypeMismatch || !strings.Contains(err.Error(), versionType) || !strings.Contains(err.Error(), raw.Type) {
		t.Errorf("it fails with %v", err)
	}
}

func TestFieldsThatTheMessageDoesNotKnowAreKept(t *testing.T) {
	message := done(t, "")
	raw := RawEvent{Type: doneType, ContentType: contentProtobuf, Data: append(mustMarshal(t, done(t, "x")), 0x78, 0x01)}
	if err := raw.To(message); err != nil || len(message.ProtoReflect().GetUnknown()) != 2 {
		t.Errorf("%v, unknown is %v", err, message.ProtoReflect().GetUnknown())
	}
}

func TestTwoVersionsOfAMessageWorkSideBySide(t *testing.T) {
	domain, namespace := proto.String("d.example"), proto.String("test")
	schema := &certesv1.SchemaBinding{Domain: domain, Namespace: namespace}
	first := messageType(t, "test.v1", "Done", schema, &certesv1.EventBinding{})
	second := messageType(t, "test.v2", "Done", schema, &certesv1.EventBinding{})
	for kind, want := range map[proto.Message]string{withNote(first, "a"): "d.example/test/1/done", withNote(second, "b"): "d.example/test/2/done"} {
		bound, got, err := offline(t).typeOf(t.Context(), kind)
		if err != nil || got != want {
			t.Errorf("%s is %s, %v; wanted %s", bound.fullName, got, err, want)
		}
	}
}

func TestAPublishedEventHasTheTraceContextOfTheCurrentSpanUnlessGiven(t *testing.T) {
	provider := sdktrace.NewTracerProvider()
	state, err := trace.ParseTraceState("a=1")
	if err != nil {
		t.Fatal(err)
	}
	remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceState: state, TraceFlags: trace.FlagsSampled})
	ctx, span := provider.Tracer("test").Start(trace.ContextWithRemoteSpanContext(t.Context(), remote), "work", trace.WithAttributes(attribute.String("a", "b")))
	defer span.End()
	encoded := func(ctx context.Context, out Outgoing) *certesv1.Event {
		out.Message, out.Everyone = done(t, "x"), true
		buffer, begin, err := offline(t).encode(ctx, &out, "id", nil)
		if err != nil {
			t.Fatal(err)
		}
		var request certesv1.PublishStreamRequest
		if err := proto.Unmarshal(buffer[begin:], &request); err != nil {
			t.Fatal(err)
		}
		return request.GetEvents()[0]
	}
	want := "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
	if got := encoded(ctx, Outgoing{}); got.GetTraceparent() != want || got.GetTracestate() != "a=1" {
		t.Errorf("the trace context is %s, %s; wanted %s", got.GetTraceparent(), got.GetTracestate(), want)
	}
	if got := encoded(ctx, Outgoing{Traceparent: "given"}); got.GetTraceparent() != "given" || got.GetTracestate() != "" {
		t.Errorf("the trace context is %s, %s", got.GetTraceparent(), got.GetTracestate())
	}
	if got := encoded(t.Context(), Outgoing{}); got.GetTraceparent() != "" || got.GetTracestate() != "" {
		t.Errorf("without a span the trace context is %s, %s", got.GetTraceparent(), got.GetTracestate())
	}
}

func TestAHandlerRunsWithTheEventsTraceContext(t *testing.T) {
	var registry handlerRegistry
	var got trace.SpanContext
	register(&registry, doneType, func(ctx context.Context, _ *RawEvent) error {
		got = trace.SpanContextFromContext(ctx)
		return nil
	})
	for traceparent, want := range map[string]bool{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01": true, "": false, "garbage": false} {
		got = trace.SpanContext{}
		if failure := registry.handle(t.Context(), &RawEvent{Type: doneType, Traceparent: traceparent, Tracestate: "a=1"}); failure != nil {
			t.Fatal(failure)
		}
		if got.IsValid() != want || want && (!got.IsRemote() || got.SpanID().String() != "b7ad6b7169203331" || got.TraceState().String() != "a=1") {
			t.Errorf("%q becomes %+v", traceparent, got)
		}
	}
}
