package certes

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/hookactions/certes-sdk/go/internal/uris"
)

// Handler handles one event. An event is done when its handlers have returned nil; an error, or a panic, has the broker deliver it
// again, by the retry policy of the subscription.
//
// The context holds the event's trace context. It ends when the client is closed and the time to finish is over, and, for a webhook,
// when the sender has gone.
type Handler func(ctx context.Context, raw *RawEvent) error

type registration struct {
	pattern uris.Pattern
	handle  Handler
}

// handlerRegistry knows which handlers an event has. It is safe for concurrent use.
type handlerRegistry struct {
	mu       sync.Mutex
	all      []registration
	byType   atomic.Pointer[sync.Map] // event type → []Handler, made again whenever a handler is registered
	onChange func()                   // called, without the lock, after each registration
}

// register adds a handler at the end.
func (r *handlerRegistry) register(pattern uris.Pattern, handle Handler) {
	r.mu.Lock()
	r.all = append(r.all, registration{pattern, handle})
	r.byType.Store(&sync.Map{})
	changed := r.onChange
	r.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (r *handlerRegistry) empty() bool { return r.byType.Load() == nil }

// observe sets what is called after registrations.
func (r *handlerRegistry) observe(changed func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onChange = changed
}

// of returns the handlers of an event type, in the order in which they run.
func (r *handlerRegistry) of(eventType string) []Handler {
	known := r.byType.Load()
	if known == nil {
		return nil
	}
	if found, ok := known.Load(eventType); ok {
		return found.([]Handler)
	}
	r.mu.Lock()
	found := mostSpecific(r.all, eventType)
	r.mu.Unlock()
	if len(found) > 0 {
		// Only what is handled is remembered, or strangers' event types could fill the memory.
		known.Store(eventType, found)
	}
	return found
}

// mostSpecific returns the handlers of the most specific patterns that match, in the order of registration.
func mostSpecific(all []registration, eventType string) []Handler {
	var best uris.Pattern
	var found []Handler
	for _, r := range all {
		if !r.pattern.Matches(eventType) {
			continue
		}
		order := 1
		if len(found) > 0 {
			order = r.pattern.Compare(best)
		}
		switch {
		case order > 0:
			best, found = r.pattern, []Handler{r.handle}
		case order == 0:
			found = append(found, r.handle)
		}
	}
	return found
}

// handle runs the handlers of an event, up to the first that fails. What it returns is NO_HANDLER or HANDLER_FAILED, or nil.
func (r *handlerRegistry) handle(ctx context.Context, raw *RawEvent) *Error {
	handlers := r.of(raw.Type)
	if len(handlers) == 0 {
		return newError(codes.Unimplemented, ReasonNoHandler, "nobody handles events of the type %s", raw.Type).
			hinting("Register a handler with On, or leave the type out of the subscription.")
	}
	ctx = withTraceOf(ctx, raw)
	for _, handler := range handlers {
		if err := call(ctx, handler, raw); err != nil {
			return newError(codes.Internal, ReasonHandlerFailed, "%v", err).because(err)
		}
	}
	return nil
}

// call runs one handler; a panic becomes an error, so that it is not the end of all others.
func call(ctx context.Context, handle Handler, raw *RawEvent) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value, debug.Stack()}
		}
	}()
	return handle(ctx, raw)
}

// panicError is what a handler panicked with. Its text has no stack, since it is told to the broker.
type panicError struct {
	value any
	stack []byte
}

// Error returns what was panicked with.
func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }
