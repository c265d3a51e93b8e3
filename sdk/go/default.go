package certes

import (
	"context"
	"log/slog"
	"net/http"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// The default client. Handlers can be registered, and HttpHandler mounted, before there is one.
var standard struct {
	mu       sync.Mutex
	client   *Client
	handlers handlerRegistry
}

// Init makes the default client, which the functions of this package work on, of the gateway at uri, events://host[:port]. It
// asks nobody for anything. Environment variables say what the options leave out, so that the URI alone is enough: CERTES_APP, CERTES_TOKEN and others.
//
// The error, which it logs too, is MALFORMED_URI, FIELD_INVALID, or ALREADY_INITIALIZED where there is a default client that is not closed.
// After Close it makes another one, which has the handlers of the first.
func Init(uri string, options ...Option) error {
	standard.mu.Lock()
	defer standard.mu.Unlock()
	if standard.client != nil && !isOver(standard.client.closed) {
		return logged(standard.client, "Init", newError(codes.FailedPrecondition, ReasonAlreadyInitialized,
			"Init was called before, and there is one default client").
			hinting("Use NewClient for another one."))
	}
	client, err := newClient(uri, &standard.handlers, options)
	if err != nil {
		return logged(nil, "Init", err)
	}
	standard.client = client
	return nil
}

func defaultClient() (*Client, error) {
	standard.mu.Lock()
	defer standard.mu.Unlock()
	if standard.client == nil {
		return nil, newError(codes.FailedPrecondition, ReasonNotInitialized,
			"Init was not called, or failed").hinting("Call certes.Init first.")
	}
	return standard.client, nil
}

// logged logs an error and returns it: short programs ignore what the short forms return. client is nil before Init.
func logged(client *Client, function string, err error) error {
	if err == nil {
		return nil
	}
	e := asError(err)
	attributes := []any{"reason", e.Reason, "error", e.Message}
	if e.Hint != "" {
		attributes = append(attributes, "hint", e.Hint)
	}
	logger := slog.Default()
	if client != nil {
		logger = client.settings.logger
	}
	logger.Error("certes: "+function+" failed", attributes...)
	return err
}

// EnsureSubscriptions has the default client ensure the application's subscription: see [Client.EnsureSubscriptions]. It logs the error
// that it returns.
//
// If the broker cannot be reached for 30 s, as when both are started at once, it returns the error and goes on trying in the background,
// until the same subscription is ensured anew.
func EnsureSubscriptions(events ...Selector) error {
	client, err := defaultClient()
	if err != nil {
		return logged(nil, "EnsureSubscriptions", err)
	}
	return logged(client, "EnsureSubscriptions", client.ensureEventually(context.Background(), Subscriptions{Events: events}))
}

// EnsureSubscriptionsContext has the default client ensure a subscription: see [Client.EnsureSubscriptions].
func EnsureSubscriptionsContext(ctx context.Context, wanted Subscriptions) error {
	client, err := defaultClient()
	if err != nil {
		return err
	}
	return client.EnsureSubscriptions(ctx, wanted)
}

// On registers a handler of the default client, also before Init: see [Client.On]. It panics if the pattern is malformed.
//
// With no callback URL, events come as soon as there is a handler and EnsureSubscriptions has succeeded, in either order.
func On(pattern string, handler func(raw *RawEvent) error) {
	if handler == nil {
		panic("certes: On: the handler is nil")
	}
	OnContext(pattern, func(_ context.Context, raw *RawEvent) error { return handler(raw) })
}

// OnContext registers a handler of the default client that gets a context: see [Client.On].
func OnContext(pattern string, handler Handler) {
	register(&standard.handlers, pattern, handler)
}

// HttpHandler takes the broker's webhooks for the default client: see [Client.Handler]. It can be mounted before Init; until then it
// answers 503.
//
//nolint:revive // the name is that of the standard's own example
func HttpHandler() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		client, err := defaultClient()
		if err != nil {
			answerError(w, http.StatusServiceUnavailable, asError(err))
			return
		}
		client.serveWebhook(w, r)
	}
}

// SendOutgoingEvent publishes a message for one subscriber, by the producer's own id of it, and returns when it is durable: see
// [Client.Publish]. It logs the error that it returns.
func SendOutgoingEvent(subscriber string, message proto.Message) error {
	client, err := defaultClient()
	if err == nil {
		err = client.SendOutgoingEvent(context.Background(), subscriber, message)
	}
	return logged(client, "SendOutgoingEvent", err)
}

// SendOutgoingEventContext publishes a message for one subscriber: see [Client.SendOutgoingEvent].
func SendOutgoingEventContext(ctx context.Context, subscriber string, message proto.Message) error {
	client, err := defaultClient()
	if err != nil {
		return err
	}
	return client.SendOutgoingEvent(ctx, subscriber, message)
}

// Publish publishes an event with the default client: see [Client.Publish].
func Publish(ctx context.Context, out Outgoing) (Receipt, error) {
	client, err := defaultClient()
	if err != nil {
		return Receipt{}, err
	}
	return client.Publish(ctx, out)
}

// PublishAll publishes many events with the default client: see [Client.PublishAll].
func PublishAll(ctx context.Context, all []Outgoing) ([]Receipt, error) {
	client, err := defaultClient()
	if err != nil {
		return nil, err
	}
	return client.PublishAll(ctx, all)
}

// Run handles events that come by stream until the context ends, and then closes the default client: see [Client.Run].
func Run(ctx context.Context) error {
	client, err := defaultClient()
	if err != nil {
		return err
	}
	return client.Run(ctx)
}

// Close closes the default client: see [Client.Close]. It does nothing before Init.
func Close(ctx context.Context) error {
	client, err := defaultClient()
	if err != nil {
		return nil //nolint:nilerr // there is nothing to close
	}
	return client.Close(ctx)
}
