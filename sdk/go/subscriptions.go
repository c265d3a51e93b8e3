package certes

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
)

const (
	// ensurePatience is how long refusals that are retryable, and connections that break, are tried again.
	ensurePatience     = 30 * time.Second
	defaultAckDeadline = 30 * time.Second
	leastAckDeadline   = time.Second // no extension can be shorter
)

// Subscriptions says which events the application wants.
type Subscriptions struct {
	// Events are the selectors. An event that several of them match is delivered once.
	Events []Selector
	// Name tells one subscription of the application from another. Empty for the one that is named for the application alone.
	Name string
	// Filter is a CEL expression that must also be true. It may be empty.
	Filter string
}

// EnsureSubscriptions makes the selectors and the filter of one subscription equal to what is wanted, and returns when the broker has
// stored it. It creates the subscription if there is none, and leaves everything else of it as operators have set it. Any number of
// replicas can do it at once.
//
// Refusals that are retryable, and connections that break, are tried again for 30 s. Errors: APP_MISSING, MALFORMED_PATTERN, UNKNOWN_OPTION, STALE_GENERATION and
// others of UpdateSubscription.
func (c *Client) EnsureSubscriptions(ctx context.Context, wanted Subscriptions) error {
	request, err := c.ensureRequest(wanted)
	if err != nil {
		return err
	}
	if err := c.wishes.add(ctx, newWish(request)); err != nil {
		return err
	}
	return c.ensurePatiently(ctx, request)
}

// ensurePatiently tries until the broker has stored it, has refused it for good, or ensurePatience is over.
func (c *Client) ensurePatiently(ctx context.Context, request *certesv1.UpdateSubscriptionRequest) error {
	began := time.Now()
	patient, cancel := context.WithTimeout(ctx, ensurePatience)
	defer cancel()
	for try := 1; ; try++ {
		err := c.ensure(patient, request) // which a broker that hangs would not answer
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return asError(ctx.Err())
		}
		refusal := asError(err)
		wait := max(refusal.RetryAfter, reconnecting.Wait(try, rand.Float64()))
		if !c.connector.mayPass(refusal) || time.Since(began)+wait > ensurePatience {
			return refusal
		}
		c.connector.doubt()
		if err := c.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (c *Client) ensureRequest(wanted Subscriptions) (*certesv1.UpdateSubscriptionRequest, error) {
	if c.isClosed() {
		return nil, clientClosed()
	}
	name, err := c.settings.subscription(wanted.Name)
	if err != nil {
		return nil, err
	}
	selectors, err := selectorsOf(wanted.Events)
	if err != nil {
		return nil, err
	}
	mask := []string{"selectors", "filter"}
	sub := &certesv1.Subscription{Name: name, Selectors: selectors, Filter: wanted.Filter, Generation: c.settings.generation}
	if sub.Generation != nil {
		mask = append(mask, "generation")
	}
	if c.settings.callbackURL != "" {
		sub.Delivery = &certesv1.Subscription_Webhook{Webhook: &certesv1.Webhook{Url: c.settings.callbackURL}}
		mask = append(mask, "webhook.url")
	} else {
		sub.Delivery = &certesv1.Subscription_Stream{Stream: &certesv1.StreamDelivery{}}
		mask = append(mask, "stream")
	}
	return &certesv1.UpdateSubscriptionRequest{Subscription: sub, UpdateMask: &fieldmaskpb.FieldMask{Paths: mask}, AllowMissing: true}, nil
}

func (c *Client) ensure(ctx context.Context, request *certesv1.UpdateSubscriptionRequest) error {
	connection, err := c.connector.connect(ctx)
	if err != nil {
		return err
	}
	answer, err := connection.subs.UpdateSubscription(ctx, request)
	if err != nil {
		return err
	}
	c.consumer.ensured(request.GetSubscription().GetName(), answer.GetSubscription().GetAckDeadline().AsDuration())
	return nil
}

// sleep has a call wait, and returns an error where its context ends or the client is closed meanwhile.
func (c *Client) sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return asError(ctx.Err())
	case <-c.handled:
		return clientClosed()
	}
}

// subscription is one that this client has ensured.
type subscription struct {
	name        string
	ackDeadline atomic.Int64 // nanoseconds

	mu   sync.Mutex
	open *stream
}

// deadline returns how long a delivery may stay unsettled.
func (s *subscription) deadline() time.Duration {
	if known := time.Duration(s.ackDeadline.Load()); known >= leastAckDeadline {
		return known
	}
	return defaultAckDeadline
}

func (s *subscription) enter(open *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = open
}

func (s *subscription) leave(*stream) { s.enter(nil) }

// flush has everything told to the broker that is settled on the open stream.
func (s *subscription) flush(ctx context.Context) {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	if open != nil {
		open.settlement.flush(ctx)
	}
}
