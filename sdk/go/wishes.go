package certes

import (
	"context"
	"math/rand/v2"
	"sync"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
)

// wish is what one call of EnsureSubscriptions wants, which may go on in the background after the call.
type wish struct {
	request *certesv1.UpdateSubscriptionRequest
	cancel  context.CancelFunc // nil where nothing goes on; guarded by the lock of wishes
	ended   chan struct{}      // closed when nothing goes on any more
}

func newWish(request *certesv1.UpdateSubscriptionRequest) *wish {
	return &wish{request: request, ended: make(chan struct{})}
}

func (w *wish) name() string { return w.request.GetSubscription().GetName() }

// wishes are the latest of each subscription, so that an older one is never put back by what goes on in the background. The zero value has
// none. It is safe for concurrent use.
type wishes struct {
	mu     sync.Mutex
	latest map[string]*wish
}

// add makes a wish the latest, and returns when the one before has ended in the background.
func (w *wishes) add(ctx context.Context, newer *wish) error {
	w.mu.Lock()
	older := w.latest[newer.name()]
	if w.latest == nil {
		w.latest = map[string]*wish{}
	}
	w.latest[newer.name()] = newer
	goesOn := older != nil && older.cancel != nil
	if goesOn {
		older.cancel()
	}
	w.mu.Unlock()
	if !goesOn {
		return nil
	}
	select {
	case <-older.ended:
		return nil
	case <-ctx.Done():
		return asError(ctx.Err())
	}
}

// goOn returns the context of a wish that goes on in the background, unless there is a newer one.
func (w *wishes) goOn(ctx context.Context, one *wish) (context.Context, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.latest[one.name()] != one {
		return nil, false
	}
	ctx, one.cancel = context.WithCancel(ctx)
	return ctx, true
}

// ensureEventually is EnsureSubscriptions that goes on in the background where it gives up.
func (c *Client) ensureEventually(ctx context.Context, wanted Subscriptions) error {
	request, err := c.ensureRequest(wanted)
	if err != nil {
		return err
	}
	one := newWish(request)
	if err := c.wishes.add(ctx, one); err != nil {
		return err
	}
	err = c.ensurePatiently(ctx, request)
	if err != nil && mayPass(asError(err)) {
		if ctx, latest := c.wishes.goOn(c.consumer.ctx, one); latest {
			go c.ensureLater(ctx, one, asError(err))
		}
	}
	return err
}

// ensureLater goes on until it is done, refused for good, there is a newer wish, or the client is closed. last is why the call gave up.
func (c *Client) ensureLater(ctx context.Context, one *wish, last *Error) {
	defer close(one.ended)
	defer one.cancel()
	for round := 1; ; round++ {
		// A round ends at once where the broker says to wait for longer than a round is.
		if c.sleep(ctx, max(last.RetryAfter, reconnecting.Wait(round, rand.Float64()))) != nil {
			return
		}
		err := c.ensurePatiently(ctx, one.request)
		if err == nil || ctx.Err() != nil || c.isClosed() {
			return
		}
		if last = asError(err); !mayPass(last) {
			c.warn("the subscription cannot be ensured", last)
			return
		}
	}
}
