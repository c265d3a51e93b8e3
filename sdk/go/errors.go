package certes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// Reasons that arise in the SDK itself. The broker has more; they are in docs/reference.
const (
	ReasonNotInitialized      = "NOT_INITIALIZED"      // something was called before Init
	ReasonAlreadyInitialized  = "ALREADY_INITIALIZED"  // Init was called twice
	ReasonClientClosed        = "CLIENT_CLOSED"        // something was called after Close
	ReasonAppMissing          = "APP_MISSING"          // the application, or its source, is needed and has no name
	ReasonFieldInvalid        = "FIELD_INVALID"        // an argument is malformed; Metadata["field"] names it
	ReasonMalformedURI        = "MALFORMED_URI"        // Metadata["position"] says where
	ReasonMalformedPattern    = "MALFORMED_PATTERN"    // Metadata["position"] says where
	ReasonUnmatchablePattern  = "UNMATCHABLE_PATTERN"  // a pattern that no event URI can match
	ReasonAudienceMissing     = "AUDIENCE_MISSING"     // an event is for nobody
	ReasonNotAnEventType      = "NOT_AN_EVENT_TYPE"    // a message without the option certes.v1.event
	ReasonEventTooLarge       = "EVENT_TOO_LARGE"      // no broker takes an event of this size
	ReasonDataTypeMismatch    = "DATA_TYPE_MISMATCH"   // an event was to be read as a message of another type
	ReasonDataMalformed       = "DATA_MALFORMED"       // an event's data does not decode
	ReasonRawContent          = "RAW_CONTENT"          // an event without a schema was to be read as a message
	ReasonGatewayUnreachable  = "GATEWAY_UNREACHABLE"  // discovery failed
	ReasonGatewayInsecure     = "GATEWAY_INSECURE"     // the gateway's answer would send a token in clear
	ReasonCertificateMissing  = "CERTIFICATE_MISSING"  // the gateway's gRPC asks clients for certificates, and none is set
	ReasonProtocolUnsupported = "PROTOCOL_UNSUPPORTED" // what answers at the gateway is none that is understood
	ReasonSignatureInvalid    = "SIGNATURE_INVALID"    // a webhook is not accepted; Metadata["problem"] says why
	ReasonPayloadMalformed    = "PAYLOAD_MALFORMED"    // a webhook that was verified is no event
	ReasonPayloadTooLarge     = "PAYLOAD_TOO_LARGE"    // a webhook is larger than 16 MiB
	ReasonSecretsUnavailable  = "SECRETS_UNAVAILABLE"  // the secrets that verify webhooks could not be fetched
	ReasonNoHandler           = "NO_HANDLER"           // nobody handles an event
	ReasonHandlerFailed       = "HANDLER_FAILED"       // a handler returned an error, or panicked
	ReasonTimedOut            = "TIMED_OUT"            // an event was not answered in time; whether it was stored is not known
)

// Reasons of the broker that this SDK acts on.
const (
	reasonOrdinalNotOutstanding = "ORDINAL_NOT_OUTSTANDING"
	reasonStreamEnded           = "STREAM_ENDED"
	reasonSubscriptionNotFound  = "SUBSCRIPTION_NOT_FOUND"
	reasonSubscriptionDeleted   = "SUBSCRIPTION_DELETED"
	reasonHasNoWebhook          = "SUBSCRIPTION_HAS_NO_WEBHOOK"
)

// Error is the one type of everything that is refused or fails, whether the broker says it or this SDK. Find it with [errors.As].
//
// Programs switch on Reason, never on Message.
type Error struct {
	// Code is the kind of failure.
	Code codes.Code
	// Reason is stable, such as AUDIENCE_MISSING.
	Reason string
	// Message is for a person.
	Message string
	// Hint says what to do. It may be empty.
	Hint string
	// Metadata holds facts for programs, such as limits, names and positions. It may be nil.
	Metadata map[string]string
	// Violations are the fields at fault, if fields are.
	Violations []Violation
	// Retryable says whether the same thing may succeed later, unchanged.
	Retryable bool
	// RetryAfter is how long to wait before that, where the broker said so; else 0.
	RetryAfter time.Duration

	cause error
	// nonsense says that the SDK does not understand an answer, as it would not the next one.
	nonsense bool
}

// Violation is one field at fault.
type Violation struct {
	// Field is its path in what was sent, such as events[3].type.
	Field string
	// Description says what is wrong with it.
	Description string
}

// Error returns "REASON: message".
func (e *Error) Error() string { return e.Reason + ": " + e.Message }

// Unwrap returns what led to it, such as [context.DeadlineExceeded] or the error of a handler; nil if nothing did.
func (e *Error) Unwrap() error { return e.cause }

// ReasonOf returns the reason of an error, or of the first [*Error] that it wraps. It is empty for nil and for other errors.
func ReasonOf(err error) string {
	if found, ok := errors.AsType[*Error](err); ok {
		return found.Reason
	}
	return ""
}

// newError makes an error of this SDK.
func newError(code codes.Code, reason, format string, values ...any) *Error {
	return &Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, values...), Retryable: isRetryable(code)}
}

func (e *Error) with(key, value string) *Error {
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata[key] = value
	return e
}

func (e *Error) hinting(hint string) *Error {
	e.Hint = hint
	return e
}

func (e *Error) because(cause error) *Error {
	e.cause = cause
	return e
}

// invalidField refuses one argument or setting.
func invalidField(field, format string, values ...any) *Error {
	description := fmt.Sprintf(format, values...)
	e := newError(codes.InvalidArgument, ReasonFieldInvalid, "%s %s", field, description).with("field", field)
	e.Violations = []Violation{{field, description}}
	return e
}

func clientClosed() *Error {
	return newError(codes.FailedPrecondition, ReasonClientClosed, "the client is closed")
}

func isRetryable(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted, codes.DeadlineExceeded:
		return true
	}
	return false
}

// codeName returns the canonical name of a code, such as INVALID_ARGUMENT.
func codeName(code codes.Code) string {
	if name, ok := rpccode.Code_name[int32(code)]; ok {
		return name
	}
	return rpccode.Code_UNKNOWN.String()
}

// asError returns any error as an [*Error]. What ended a context keeps it as its cause.
func asError(err error) *Error {
	if found, ok := errors.AsType[*Error](err); ok {
		return found
	}
	switch {
	case errors.Is(err, context.Canceled):
		return newError(codes.Canceled, codeName(codes.Canceled), "the call was cancelled").because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return newError(codes.DeadlineExceeded, ReasonTimedOut, "the call was not answered in time").because(err)
	}
	return errorOfStatus(status.Convert(err))
}

// errorOfStatus reads what gRPC answers: the details that the broker adds, or a bare status as proxies make them.
func errorOfStatus(s *status.Status) *Error {
	e := newError(s.Code(), codeName(s.Code()), "%s", s.Message())
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			e.Reason = cmp.Or(detail.GetReason(), e.Reason)
			e.takeMetadata(detail.GetMetadata())
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{v.GetField(), v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = max(0, detail.GetRetryDelay().AsDuration())
		}
	}
	return e
}

// errorOfProblem reads the refusal of one request of a stream.
func errorOfProblem(p *certesv1.Problem) *Error {
	code := codes.Code(p.GetCode())
	if code == codes.OK {
		code = codes.Internal // an answer that says neither one nor the other
	}
	e := newError(code, cmp.Or(p.GetReason(), codeName(code)), "%s", cmp.Or(p.GetMessage(), "the broker does not say why"))
	e.takeMetadata(p.GetMetadata())
	for _, v := range p.GetFieldViolations() {
		e.Violations = append(e.Violations, Violation{v.GetField(), v.GetDescription()})
	}
	e.RetryAfter = max(0, p.GetRetryDelay().AsDuration())
	return e
}

// takeMetadata keeps a copy, without the hint, which has a place of its own.
func (e *Error) takeMetadata(metadata map[string]string) {
	if len(metadata) == 0 {
		return
	}
	e.Metadata = maps.Clone(metadata)
	e.Hint = e.Metadata["hint"]
	delete(e.Metadata, "hint")
}

// told returns what the broker is told of a failure: the text of the handler's own error, where one failed.
func (e *Error) told() string {
	if e.Reason == ReasonHandlerFailed {
		return e.Message
	}
	return e.Error()
}
