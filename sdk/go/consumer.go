package certes

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
)

// refusedAgain is how long a stream that was refused for good is left alone before it is tried again: whoever runs the broker may
// mend it.
const refusedAgain = 30 * time.Second

// consumer keeps a stream open for each subscription that was ensured. Streams begin once there are both a subscription and a handler.
type consumer struct {
	client *Client

	mu      sync.Mutex
	known   map[string]*subscription
	started map[string]bool
	stopped bool
	running sync.WaitGroup
	runs    int              // how many calls of Run there are
	gone    map[string]error // the subscriptions whose stream has ended for good, and why
	failed  chan struct{}    // closed, and made anew, when there is one more
	ctx     context.Context
	cancel  context.CancelFunc
}

func newConsumer(client *Client) *consumer {
	c := &consumer{
		client: client, known: map[string]*subscription{}, started: map[string]bool{}, gone: map[string]error{}, failed: make(chan struct{}),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// ensured takes in a subscription that the broker has stored.
func (c *consumer) ensured(name string, ackDeadline time.Duration) {
	c.mu.Lock()
	sub := c.known[name]
	if sub == nil {
		sub = &subscription{name: name}
		c.known[name] = sub
	}
	sub.ackDeadline.Store(int64(ackDeadline))
	delete(c.gone, sub.name)
	c.mu.Unlock()
	c.start()
}

// names returns the subscriptions of the application: those that were ensured, or the one that is named for it.
func (c *consumer) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name := range c.known {
		names = append(names, name)
	}
	if len(names) == 0 {
		if name, err := c.client.settings.subscription(""); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// start opens the streams that can be opened and are not open yet.
func (c *consumer) start() {
	if c.client.settings.callbackURL != "" || c.client.handlers.empty() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || c.client.isClosing() {
		return
	}
	for name, sub := range c.known {
		if !c.started[name] {
			c.started[name] = true
			c.running.Go(func() { c.keep(sub) })
		}
	}
}

// keep keeps the stream of a subscription open, until the client is closed or the subscription is gone.
func (c *consumer) keep(sub *subscription) {
	lost := false
	for try := 0; ; {
		progressed, err := c.client.runStream(c.ctx, sub)
		if c.ctx.Err() != nil || c.client.isClosing() {
			return
		}
		if progressed {
			try, lost = 0, false
		}
		if try > 0 && !lost && isLost(err) {
			lost = true
			c.client.warn("the stream of a subscription is lost; it is opened again as soon as the broker answers", err, "subscription", sub.name)
		}
		wait, final := c.judge(sub, err, try)
		if final != nil {
			c.end(sub, final)
			return
		}
		try++
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.client.closing:
			timer.Stop()
			return
		}
	}
}

// isLost says whether a stream ended without a word of the broker.
func isLost(err error) bool {
	_, closed := errors.AsType[*closingError](err)
	return !closed && mayPass(asError(err))
}

// judge says how long to wait before a stream is opened again, or why it is not. try counts how often in a row that was done already.
func (c *consumer) judge(sub *subscription, err error, try int) (time.Duration, error) {
	if closing, ok := errors.AsType[*closingError](err); ok {
		if closing.reason == certesv1.SubscribeResponse_REASON_DELETED {
			return 0, newError(codes.FailedPrecondition, reasonSubscriptionDeleted,
				"the subscription %s was deleted: %s", sub.name, closing.message)
		}
		return againAfter(try, 0), nil
	}
	refusal := asError(err)
	switch {
	case refusal.Reason == reasonSubscriptionNotFound || refusal.Reason == reasonSubscriptionDeleted:
		return 0, refusal
	case c.client.connector.mayPass(refusal):
		if try > 0 {
			c.client.connector.doubt()
		}
		return againAfter(try, refusal.RetryAfter), nil
	}
	c.client.warn("the broker refuses to open the stream of a subscription; it is tried again every 30 s", refusal, "subscription", sub.name)
	return refusedAgain, nil
}

// againAfter returns the wait before the next try: none the first time.
func againAfter(try int, asked time.Duration) time.Duration {
	if try == 0 {
		return asked
	}
	return max(asked, reconnecting.Wait(try, rand.Float64()))
}

// isBroken says whether an error is that of a connection or a broker that broke, rather than a refusal.
func isBroken(e *Error) bool {
	if e.nonsense {
		return false
	}
	switch e.Code {
	case codes.Internal, codes.Unknown, codes.Canceled, codes.DataLoss, codes.OK:
		return true
	}
	return false
}

// mayPass says whether a call may succeed when it is made again as it is, where its own context is not what ended it.
func mayPass(e *Error) bool { return e.Retryable || isBroken(e) }

// end forgets a subscription whose stream has ended for good, and tells Run why, or the log where nobody runs.
func (c *consumer) end(sub *subscription, final error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, sub.name)
	delete(c.started, sub.name)
	c.gone[sub.name] = final
	close(c.failed)
	c.failed = make(chan struct{})
	if c.runs == 0 {
		c.client.warn("the stream of a subscription has ended for good", final, "subscription", sub.name)
	}
}

// failure returns why a stream has ended for good, if one has, or what is closed when one does.
func (c *consumer) failure() (<-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, final := range c.gone {
		return nil, final
	}
	return c.failed, nil
}

// Run handles events that come by stream until the context ends, and then closes the client as [Client.Close] does and returns nil, or
// what Close says. Subscriptions must have been ensured; without Run their streams run too, and their failures go to the log.
//
// It returns an error only where the stream of a subscription has ended for good: SUBSCRIPTION_DELETED or SUBSCRIPTION_NOT_FOUND, also where
// that was before Run. All else goes to the log, and is tried again for ever.
func (c *Client) Run(ctx context.Context) error {
	if c.isClosing() {
		return clientClosed()
	}
	if c.settings.callbackURL != "" {
		return invalidField("callback_url", "is set, so that deliveries come to the HTTP handler and not by stream")
	}
	c.consumer.enterRun(1)
	defer c.consumer.enterRun(-1)
	c.consumer.start()
	for {
		failed, final := c.consumer.failure()
		if final != nil {
			return final
		}
		select {
		case <-ctx.Done():
			return c.Close(context.WithoutCancel(ctx))
		case <-c.closing:
			return nil
		case <-failed:
		}
	}
}

func (c *consumer) enterRun(change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs += change
}

// stop ends the streams, after the broker was told what is settled.
func (c *consumer) stop(ctx context.Context) {
	c.mu.Lock()
	c.stopped = true
	subs := make([]*subscription, 0, len(c.known))
	for _, sub := range c.known {
		subs = append(subs, sub)
	}
	c.mu.Unlock()
	var flushing sync.WaitGroup
	for _, sub := range subs {
		flushing.Go(func() { sub.flush(ctx) })
	}
	flushing.Wait()
	c.cancel()
	c.running.Wait()
}
