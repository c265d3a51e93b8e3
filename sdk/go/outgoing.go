package certes

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
)

// Outgoing is an event to publish. Message and one of Subscriber and Everyone are required.
type Outgoing struct {
	// Message is the content. Its type says the event's: the options certes.v1.schema and certes.v1.event.
	Message proto.Message
	// Subscriber is the producer's own id of whom the event is for, such as org_123.
	Subscriber string
	// Everyone says that it is for every subscriber.
	Everyone bool
	// ID identifies the event within its source; publishing it again stores nothing. A UUIDv7 is made where it is empty.
	ID string
	// Subject names what the event is about within its source. It may be empty.
	Subject string
	// Time is when it happened. The broker sets it where it is zero.
	Time time.Time
	// OrderingKey has events come one after another. Empty promises no order.
	OrderingKey string
	// Attributes are further attributes. It may be nil.
	Attributes map[string]string
	// Source names who sends it, instead of the client's source.
	Source string
	// Traceparent is the W3C trace context, instead of that of the current span.
	Traceparent string
	// Tracestate belongs to Traceparent.
	Tracestate string
}

// Receipt says what became of an event that is stored. The broker is asked for Duplicate and Name where Outgoing.ID was given, and by
// [Client.PublishAll]; otherwise they are false and empty.
type Receipt struct {
	// ID is the event's.
	ID string
	// Duplicate says that it had been stored before, be it by an earlier try of the same call.
	Duplicate bool
	// Name is events/{opaque position}: what the broker calls the event, or, of a duplicate, the first one.
	Name string
}

const (
	// The broker takes requests of 4 MiB; what is around an event in one takes a few bytes.
	maximumEventBytes = maximumRequestBytes - 1<<10
	// Field numbers of PublishStreamRequest.
	requestID, requestEvents, requestReturnResults = 1, 2, 3
	// A tag and a length of up to 2^28 go before the event.
	eventHeaderRoom = 5
)

// encode writes an event as it stands in a PublishStreamRequest, with the tag and the length before it. It writes into buffer, or one
// that is larger, and returns that and where in it the event begins.
//
// The event is written by hand around the message's own bytes, which so are written once and where they stay: a generated Event holds
// them in an Any, and so copies them twice. A test holds it to the generated code.
func (c *Client) encode(ctx context.Context, out *Outgoing, id string, buffer []byte) ([]byte, int, error) {
	source := out.Source
	if source == "" {
		source = c.settings.source
	}
	if source == "" {
		return nil, 0, newError(codes.FailedPrecondition, ReasonAppMissing,
			"an event says who sends it, and this application has no name").
			hinting("Set CERTES_APP or CERTES_SOURCE, or use WithApp or WithSource.")
	}
	if err := checkOutgoing(out, source); err != nil {
		return nil, 0, err
	}
	bound, typ, err := c.typeOf(ctx, out.Message)
	if err != nil {
		return nil, 0, err
	}
	traceparent, tracestate := out.Traceparent, out.Tracestate
	if traceparent == "" {
		traceparent, tracestate = traceOf(ctx)
	}
	size := proto.Size(out.Message)
	if size > maximumEventBytes {
		return nil, 0, tooLarge(size)
	}
	if need := size + 512; cap(buffer) < need {
		buffer = make([]byte, 0, need)
	}
	b := buffer[:eventHeaderRoom]
	b = appendText(b, eventID, id)
	b = appendText(b, eventType, typ)
	b = appendText(b, eventSource, source)
	b = appendText(b, eventSubject, out.Subject)
	if !out.Time.IsZero() {
		b = appendTime(b, eventTime, out.Time)
	}
	b, err = appendMessage(b, bound, out.Message, size)
	if err != nil {
		return nil, 0, err
	}
	b = appendText(b, eventSubscriber, out.Subscriber)
	if out.Everyone {
		b = protowire.AppendVarint(protowire.AppendTag(b, eventEveryone, protowire.VarintType), 1)
	}
	b = appendText(b, eventOrderingKey, out.OrderingKey)
	if len(out.Attributes) > 0 {
		b = appendAttributes(b, out.Attributes)
	}
	b = appendText(b, eventTraceparent, traceparent)
	b = appendText(b, eventTracestate, tracestate)
	body := len(b) - eventHeaderRoom
	if body > maximumEventBytes {
		return nil, 0, tooLarge(body)
	}
	begin := eventHeaderRoom - 1 - protowire.SizeVarint(uint64(body))
	protowire.AppendVarint(protowire.AppendTag(b[:begin], requestEvents, protowire.BytesType), uint64(body))
	return b, begin, nil
}

func (c *Client) typeOf(ctx context.Context, message proto.Message) (*binding, string, error) {
	if message == nil || !message.ProtoReflect().IsValid() {
		return nil, "", invalidField("message", "is nil")
	}
	bound, err := bindingOf(message.ProtoReflect().Descriptor())
	if err != nil {
		return nil, "", err
	}
	domain := ""
	if bound.domain == "" {
		if domain, err = c.brokerDomain(ctx); err != nil {
			return nil, "", err
		}
	}
	typ, err := bound.eventType(domain)
	return bound, typ, err
}

// brokerDomain returns the broker's own domain. It asks the gateway, for as long as a call is tried, if that has never answered yet. A
// gateway that is gone is asked again by the writer alone: callers would stand in line before it, each for as long as the gateway is silent.
func (c *Client) brokerDomain(ctx context.Context) (string, error) {
	if known := c.connector.domain(); known != "" {
		return known, nil
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	for try := 1; ; try++ {
		connection, err := c.connector.connect(ctx)
		if err == nil {
			return connection.place.Domain, nil
		}
		wait := reconnecting.Wait(try, rand.Float64())
		if refusal := asError(err); ctx.Err() != nil || !refusal.Retryable || time.Since(began)+wait > publishPatience {
			return "", refusal
		}
		if err := c.sleep(ctx, wait); err != nil {
			return "", err
		}
	}
}

func checkOutgoing(out *Outgoing, source string) error {
	switch {
	case out.Subscriber == "" && !out.Everyone:
		return newError(codes.InvalidArgument, ReasonAudienceMissing,
			"an event is for a subscriber or for everyone, and this one is for nobody").
			hinting("Set Subscriber, or Everyone.")
	case out.Subscriber != "" && out.Everyone:
		return invalidField("everyone", "is set beside a subscriber")
	case out.Tracestate != "" && out.Traceparent == "":
		return invalidField("tracestate", "is set without a traceparent")
	}
	for _, field := range [...]struct{ name, text string }{
		{"id", out.ID}, {"subject", out.Subject}, {"subscriber", out.Subscriber}, {"source", source},
		{"ordering_key", out.OrderingKey}, {"traceparent", out.Traceparent}, {"tracestate", out.Tracestate},
	} {
		// gRPC would end the whole stream for it.
		if !utf8.ValidString(field.text) {
			return invalidField(field.name, "is not UTF-8")
		}
	}
	for key, value := range out.Attributes {
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return invalidField("attributes", "are not UTF-8")
		}
	}
	return nil
}

func tooLarge(size int) *Error {
	return newError(codes.InvalidArgument, ReasonEventTooLarge,
		"the event has %d bytes; no broker takes more than %d", size, maximumEventBytes)
}

func appendText(b []byte, number protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), text)
}

// appendAttributes writes attributes in the order of their names, so that an event has one wire form.
func appendAttributes(b []byte, attributes map[string]string) []byte {
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		entry := appendText(appendText(nil, mapEntryKey, key), mapEntryValue, attributes[key])
		b = protowire.AppendBytes(protowire.AppendTag(b, eventAttributes, protowire.BytesType), entry)
	}
	return b
}

func appendTime(b []byte, number protowire.Number, t time.Time) []byte {
	var inner []byte
	if seconds := t.Unix(); seconds != 0 {
		inner = protowire.AppendVarint(protowire.AppendTag(inner, timeSeconds, protowire.VarintType), uint64(seconds))
	}
	if nanos := t.Nanosecond(); nanos != 0 {
		inner = protowire.AppendVarint(protowire.AppendTag(inner, timeNanos, protowire.VarintType), uint64(nanos))
	}
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), inner)
}

// appendMessage writes the Any of a message of a known size.
func appendMessage(b []byte, bound *binding, message proto.Message, size int) ([]byte, error) {
	inner := protowire.SizeTag(anyTypeURL) + protowire.SizeBytes(len(bound.typeURL))
	if size > 0 {
		inner += protowire.SizeTag(anyValue) + protowire.SizeBytes(size)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, eventData, protowire.BytesType), uint64(inner))
	b = protowire.AppendString(protowire.AppendTag(b, anyTypeURL, protowire.BytesType), bound.typeURL)
	if size == 0 {
		return b, nil
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, anyValue, protowire.BytesType), uint64(size))
	before := len(b)
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, message)
	if err == nil && len(b)-before != size {
		err = errChanged
	}
	if err != nil {
		return nil, newError(codes.InvalidArgument, ReasonDataMalformed,
			"the message %s does not encode: %s", bound.fullName, strings.TrimPrefix(err.Error(), "proto: ")).because(err)
	}
	return b, nil
}
