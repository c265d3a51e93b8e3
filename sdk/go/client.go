package certes

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// drainTime is how long Close waits for what is under way.
const drainTime = 30 * time.Second

// tellTime is how long the broker has to take in what was settled in the end.
const tellTime = 5 * time.Second

// Client publishes events and receives them. It is safe for concurrent use. The functions of the package work on one default client.
type Client struct {
	settings  *settings
	connector *connector
	handlers  *handlerRegistry
	workers   *workers
	consumer  *consumer
	wishes    wishes
	publisher *publisher
	keyring   *keyring

	handling    context.Context // of handlers of streams
	endHandling context.CancelFunc
	closing     chan struct{} // closed when Close begins
	handled     chan struct{} // closed when the handlers have ended that then ran
	closed      chan struct{} // closed when it is over
	closeOnce   sync.Once
	closeErr    error
}

// NewClient checks its arguments and returns a client of the gateway at uri, events://host[:port]. It reads the files that settings name, and
// asks nobody: the gateway is asked when it is first needed.
//
// Errors: MALFORMED_URI with the position, FIELD_INVALID with the setting's name as field.
func NewClient(uri string, options ...Option) (*Client, error) {
	return newClient(uri, &handlerRegistry{}, options)
}

func newClient(uri string, handlers *handlerRegistry, options []Option) (*Client, error) {
	var given arguments
	for _, option := range options {
		option(&given)
	}
	s, err := readSettings(uri, given, os.Getenv)
	if err != nil {
		return nil, err
	}
	files, err := readTLSFiles(s)
	if err != nil {
		return nil, err
	}
	c := &Client{
		settings:  s,
		connector: newConnector(s, files),
		handlers:  handlers,
		workers:   newWorkers(s.concurrency),
		closing:   make(chan struct{}),
		handled:   make(chan struct{}),
		closed:    make(chan struct{}),
	}
	c.handling, c.endHandling = context.WithCancel(context.Background())
	c.consumer = newConsumer(c)
	c.publisher = newPublisher(c)
	c.keyring = newKeyring(s.webhookKeys, c.fetchSecrets)
	handlers.observe(c.consumer.start)
	return c, nil
}

// On registers a handler for the events that match a pattern. Of the patterns that match an event the most specific decides, and all its
// handlers run, in the order of their registration, up to the first that fails.
//
// It panics if the pattern is malformed, or can match nothing, as [http.HandleFunc] does.
func (c *Client) On(pattern string, handler Handler) {
	register(c.handlers, pattern, handler)
}

func register(handlers *handlerRegistry, pattern string, handler Handler) {
	parsed, err := parsePattern(pattern)
	if err != nil {
		panic("certes: On: " + err.Error())
	}
	if handler == nil {
		panic("certes: On: the handler is nil")
	}
	handlers.register(parsed, handler)
}

// Close takes no more deliveries and no more calls, waits for handlers that run and for events that are under way, tells the broker what
// was settled, and ends the streams; what was not begun goes back to the broker. It waits 30 s at most, or until the context ends.
// Handlers that run can still publish; they cannot wait for Close. Whose a call is cannot be told, so all are taken until handlers have
// ended, and none where none runs.
//
// It returns TIMED_OUT if a handler still ran then. Calling it again waits for the first call, and returns the same.
func (c *Client) Close(ctx context.Context) error {
	c.closeOnce.Do(func() {
		close(c.closing)
		go func() {
			defer close(c.closed)
			c.closeErr = c.drain(ctx)
		}()
	})
	<-c.closed
	return c.closeErr
}

func (c *Client) drain(ctx context.Context) error {
	drained, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	var err error
	if !c.workers.close(drained) {
		err = newError(codes.DeadlineExceeded, ReasonTimedOut,
			"handlers still ran when the time to finish was over; their events are delivered again")
	}
	close(c.handled)
	var ending sync.WaitGroup
	ending.Go(func() { c.publisher.close(drained) })
	ending.Go(func() {
		// What was settled is told also where the time is over, if the broker answers at all.
		telling, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTime)
		defer cancel()
		c.consumer.stop(telling)
	})
	ending.Wait()
	c.endHandling()
	c.connector.close()
	return err
}

// isClosing says whether deliveries are taken no more.
func (c *Client) isClosing() bool { return isOver(c.closing) }

// isClosed says whether calls are taken no more.
func (c *Client) isClosed() bool { return isOver(c.handled) }

func isOver(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// reportFailure logs an event that failed. raw is nil where it did not decode.
func (c *Client) reportFailure(raw *RawEvent, failure *Error) {
	var attributes []any
	if raw != nil {
		attributes = []any{"type", raw.Type, "id", raw.ID, "source", raw.Source}
		if raw.Attempt > 0 {
			attributes = append(attributes, "attempt", raw.Attempt)
		}
	}
	if panicked, ok := errors.AsType[*panicError](failure); ok {
		attributes = append(attributes, "stack", string(panicked.stack))
	}
	c.warn("an event failed; the broker delivers it again", failure, attributes...)
}

// warn logs one thing that happened beside calls.
func (c *Client) warn(message string, err error, attributes ...any) {
	e := asError(err)
	attributes = append(attributes, "reason", e.Reason, "error", e.Message)
	if e.Hint != "" {
		attributes = append(attributes, "hint", e.Hint)
	}
	c.settings.logger.Log(context.Background(), slog.LevelWarn, "certes: "+message, attributes...)
}
