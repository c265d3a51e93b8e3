package certes

import (
	"mime"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// RawEvent is one event as it came, by stream or by webhook. [RawEvent.To] reads its data.
//
// It belongs to the handler's call. Data is shared with other events: it must not be changed, and who keeps an event long had better
// copy what is needed of it.
type RawEvent struct {
	// ID identifies the event within its source.
	ID string
	// Type is the event URI, such as community.certes.dev/github/1/push.
	Type string
	// Source names who sent it.
	Source string
	// Subject names what it is about within its source; it may be empty.
	Subject string
	// Time is when it happened; zero where that is not said.
	Time time.Time
	// Subscriber is whom it is for; empty where it is for everyone.
	Subscriber string
	// Everyone says that it is for every subscriber.
	Everyone bool
	// OrderingKey is the key whose events come one after another; it may be empty.
	OrderingKey string
	// Attributes are further attributes. It may be nil.
	Attributes map[string]string
	// Traceparent is the W3C trace context; it may be empty.
	Traceparent string
	// Tracestate belongs to Traceparent; it may be empty.
	Tracestate string

	// ContentType is the media type of Data: application/protobuf from a stream, application/json from a webhook, or what the producer
	// said of data without a schema.
	ContentType string
	// DataType is the full name of the message in Data, where ContentType is application/protobuf.
	DataType string
	// Data is the content.
	Data []byte
	// Untyped says that the content has no schema, so that [RawEvent.To] cannot read it.
	Untyped bool

	// Attempt counts the attempts at this delivery, from 1. 0 by webhook, where it is not said.
	Attempt int
	// Name is events/{opaque position}: what the broker calls the event. Empty by webhook.
	Name string
	// AcceptTime is when the broker accepted the event. Zero by webhook.
	AcceptTime time.Time
	// CorrelationIDs identify the event's way through gateways, oldest first. Nil by webhook.
	CorrelationIDs []string

	// The domain of the broker, for messages that do not say theirs.
	brokerDomain func() string
}

const (
	contentProtobuf = "application/protobuf"
	contentJSON     = "application/json"
)

// To reads the data as a message. Fields that the message does not know are kept, or, of JSON, left out. The message must be that of
// the event's type, and is overwritten.
//
// Errors: NOT_AN_EVENT_TYPE, DATA_TYPE_MISMATCH, DATA_MALFORMED, RAW_CONTENT.
func (r *RawEvent) To(message proto.Message) error {
	if message == nil {
		return invalidField("message", "is nil")
	}
	bound, err := bindingOf(message.ProtoReflect().Descriptor())
	if err != nil {
		return err
	}
	if err := r.checkType(bound); err != nil {
		return err
	}
	switch {
	case r.Untyped:
		return newError(codes.InvalidArgument, ReasonRawContent,
			"the event %s has content of the type %q without a schema, which no message can read", r.ID, r.ContentType).
			hinting("Read RawEvent.Data.")
	case r.ContentType == contentProtobuf:
		if r.DataType != "" && r.DataType != bound.fullName {
			return mismatch(r.DataType, bound.fullName)
		}
		err = proto.Unmarshal(r.Data, message)
	default:
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(r.Data, message)
	}
	if err != nil {
		return newError(codes.InvalidArgument, ReasonDataMalformed,
			"the data of the event %s is no %s: %v", r.ID, bound.fullName, err).because(err)
	}
	return nil
}

func (r *RawEvent) checkType(bound *binding) error {
	domain := ""
	if bound.domain == "" && r.brokerDomain != nil {
		domain = r.brokerDomain()
	}
	if bound.domain == "" && domain == "" {
		// Made by hand, as in a test, or by a broker that does not say its domain: the rest must do.
		domain, _, _ = strings.Cut(r.Type, "/")
	}
	eventType, err := bound.eventType(domain)
	if err != nil {
		return err
	}
	if eventType != r.Type {
		return mismatch(r.Type, eventType)
	}
	return nil
}

func mismatch(have, want string) *Error {
	return newError(codes.InvalidArgument, ReasonDataTypeMismatch, "the event is %s, and was to be read as %s", have, want).
		with("event", have).with("message", want)
}

// isJSON says whether a media type is one of JSON.
func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (kind == contentJSON || strings.HasSuffix(kind, "+json"))
}
