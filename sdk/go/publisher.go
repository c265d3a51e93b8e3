package certes

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/hookactions/certes-sdk/go/internal/coalescing"
)

// Publishing. Its rules:
//
//   - One PublishStream carries all calls. Whatever has queued up goes out as the next request; there is no linger.
//   - A call returns when its event is durable, refused for good, or given up on. Whoever gives up leaves the event to the publisher,
//     which sends it no more, if it was not sent yet.
//   - Ids are made before the first try and stay, so that sending again stores nothing twice.
//
// Three goroutines take part, each thin around package coalescing, which decides: callers encode and wait; the writer
// (publishing.go) opens the stream and sends; the reader takes the answers and lets the callers go.

const (
	// publishPatience is how long a call is tried, unless its context ends earlier.
	publishPatience = 60 * time.Second
	waitingEvents   = 10_000
	waitingBytes    = 32 << 20
	// Larger buffers are not kept for other events.
	keptBufferBytes = 64 << 10
)

var errChanged = errors.New("it was changed while it was published")

// event is one call of Publish. The publisher owns it from when it is added until it has landed.
type event struct {
	wire    []byte // as it stands in the request
	key     string
	named   bool // whether its id is the caller's, so that it can be a duplicate
	alone   bool
	result  Receipt
	refusal *Error
	buffer  []byte // wire is part of it

	landed chan struct{} // told once it is finished; never blocks
	timer  *time.Timer

	// Guarded by the publisher's lock.
	gone     bool // nobody waits for it any more
	finished bool // the publisher is done with it
}

func newEvent() *event {
	timer := time.NewTimer(publishPatience)
	timer.Stop()
	return &event{landed: make(chan struct{}, 1), timer: timer}
}

// outcome returns what became of it.
func (e *event) outcome() (Receipt, error) {
	if e.refusal != nil {
		return e.result, e.refusal
	}
	return e.result, nil
}

// Bytes returns the size, for the limits of requests.
func (e *event) Bytes() int { return len(e.wire) }

// Key returns the ordering key.
func (e *event) Key() string { return e.key }

// Alone says whether it is the only one of its request.
func (e *event) Alone() bool { return e.alone }

// recycle lets another call use an event again, with its buffer, its timer and its channel.
func (p *publisher) recycle(e *event) {
	if cap(e.buffer) > keptBufferBytes {
		e.buffer = nil
	}
	e.timer.Stop()
	*e = event{buffer: e.buffer, landed: e.landed, timer: e.timer}
	p.events.Put(e)
}

// publisher is the queue of events and what is under way. It is safe for concurrent use.
type publisher struct {
	client *Client
	ids    idSource
	// Events are used again by calls after those that got their answer.
	events sync.Pool

	mu       sync.Mutex
	queue    coalescing.Queue[*event]
	overflow []*event // what found no room, in its order
	given    int      // events that were given up since the last purge
	idle     bool     // whether the writer waits for wake
	closed   bool
	started  bool
	sent     map[string]*request // under way on the stream, by id
	again    []*request          // to be sent again, in the order in which they were sent first
	count    uint64              // requests, so far
	whole    int                 // calls of PublishAll
	empty    *sync.Cond          // nothing waits and nothing is under way
	lastErr  *Error              // why the stream cannot be opened, for those who give up

	wake   chan struct{}
	done   chan struct{} // the writer has ended
	ctx    context.Context
	cancel context.CancelFunc
}

func newPublisher(client *Client) *publisher {
	p := &publisher{client: client, sent: map[string]*request{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	p.events.New = func() any { return newEvent() }
	p.empty = sync.NewCond(&p.mu)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Publish publishes one event and returns when it is durable.
//
// It waits for room where too much waits, and gives up after 60 s, or when the context ends: TIMED_OUT, and whether the event was stored
// is not known. The receipt has the event's id also then, under which it can be published again.
//
// Errors: AUDIENCE_MISSING, APP_MISSING, NOT_AN_EVENT_TYPE, EVENT_TOO_LARGE, and what the broker refuses.
func (c *Client) Publish(ctx context.Context, out Outgoing) (Receipt, error) {
	p := c.publisher
	e, err := p.prepare(ctx, &out)
	if err != nil {
		return Receipt{}, err
	}
	if err := p.add(e); err != nil {
		p.recycle(e)
		return Receipt{}, err
	}
	select {
	case <-e.landed:
		receipt, err := e.outcome()
		p.recycle(e)
		return receipt, err
	case <-ctx.Done():
	case <-e.timer.C:
	}
	return p.abandon(ctx, e)
}

// SendOutgoingEvent publishes a message for one subscriber, by the producer's own id of it, and returns when it is durable.
func (c *Client) SendOutgoingEvent(ctx context.Context, subscriber string, message proto.Message) error {
	_, err := c.Publish(ctx, Outgoing{Message: message, Subscriber: subscriber})
	return err
}

// prepare encodes an event.
func (p *publisher) prepare(ctx context.Context, out *Outgoing) (*event, error) {
	if err := ctx.Err(); err != nil {
		return nil, asError(err)
	}
	e := p.events.Get().(*event)
	e.timer.Reset(publishPatience)
	id := out.ID
	if id == "" {
		id = p.ids.next()
	}
	buffer, begin, err := p.client.encode(ctx, out, id, e.buffer)
	if err != nil {
		p.recycle(e)
		return nil, err
	}
	e.wire, e.buffer, e.key, e.named, e.result.ID = buffer[begin:], buffer, out.OrderingKey, out.ID != "", id
	return e, nil
}

// add queues an event, or puts it into line for a place in the queue.
func (p *publisher) add(e *event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return clientClosed()
	}
	if !p.started {
		p.started = true
		go p.write()
	}
	if len(p.overflow) > 0 || !p.hasRoom(e) {
		p.overflow = append(p.overflow, e)
	} else {
		p.queue.Add(e)
	}
	p.rouse()
	return nil
}

func (p *publisher) hasRoom(e *event) bool {
	events, bytes := p.queue.Waiting()
	return events == 0 || events < waitingEvents && bytes+len(e.wire) <= waitingBytes
}

// admit queues what waits for room, as far as there is some. The caller has the lock.
func (p *publisher) admit() {
	for len(p.overflow) > 0 && (p.overflow[0].gone || p.hasRoom(p.overflow[0])) {
		if !p.overflow[0].gone {
			p.queue.Add(p.overflow[0])
		}
		p.overflow[0] = nil
		p.overflow = p.overflow[1:]
	}
	if len(p.overflow) == 0 {
		p.overflow = nil
	}
}

// rouse wakes the writer, if it waits. The caller has the lock.
func (p *publisher) rouse() {
	if p.idle {
		p.idle = false
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// abandon gives an event up, unless it is finished by now.
func (p *publisher) abandon(ctx context.Context, e *event) (Receipt, error) {
	e.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.finished {
		return e.outcome()
	}
	e.gone = true
	// Forgotten also while the stream is open and nothing is answered on it, when the writer has no turn; but not for each one all over again.
	waiting, _ := p.queue.Waiting()
	if p.given++; p.given > (waiting+len(p.overflow))/2 {
		p.purge()
	}
	p.rouse()
	return Receipt{ID: e.result.ID}, gaveUp(ctx, p.lastErr)
}

// gaveUp is the failure of a call whose context, or whose time, has ended. last is what stood in its way; nil where nothing is known to.
func gaveUp(ctx context.Context, last *Error) *Error {
	err := newError(codes.DeadlineExceeded, ReasonTimedOut, "it was not answered in time, and whether it was stored is not known")
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.Canceled):
		err = newError(codes.Canceled, codeName(codes.Canceled), "the call was cancelled, and whether it was stored is not known").because(cause)
	case cause != nil:
		err.because(cause)
	}
	if last != nil {
		err.Message += "; what stood in the way: " + last.Error()
	}
	return err
}
