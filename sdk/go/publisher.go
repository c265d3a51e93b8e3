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
	// windowAll is how many events of one PublishAll are on their way at once.
	windowAll = 1024
	// Larger buffers are not kept for other events.
	keptBufferBytes = 64 << 10
)

var errChanged = errors.New("it was changed while it was published")

// event is one event of a call. The publisher owns it from when it is added until finished is called.
type event struct {
	wire   []byte // as it stands in the request
	key    string
	named  bool // whether its id is the caller's, so that it can be a duplicate
	alone  bool
	group  *group
	index  int // in its call
	result Receipt
	buffer []byte // wire is part of it

	// Guarded by the publisher's lock.
	gone     bool // nobody waits for it any more
	finished bool // the publisher is done with it
}

// Bytes returns the size, for the limits of requests.
func (e *event) Bytes() int { return len(e.wire) }

// Key returns the ordering key.
func (e *event) Key() string { return e.key }

// Alone says whether it is the only one of its request.
func (e *event) Alone() bool { return e.alone }

// group waits for the events of one call.
type group struct {
	landed chan *event // those that are finished; never blocks
	timer  *time.Timer
}

func newGroup(events int) *group {
	timer := time.NewTimer(publishPatience)
	timer.Stop()
	return &group{landed: make(chan *event, events), timer: timer}
}

// recycle lets another call use an event again, and its buffer.
func (p *publisher) recycle(e *event) {
	if cap(e.buffer) > keptBufferBytes {
		e.buffer = nil
	}
	*e = event{buffer: e.buffer}
	p.events.Put(e)
}

// publisher is the queue of events and what is under way. It is safe for concurrent use.
type publisher struct {
	client *Client
	ids    idSource
	// Events and groups are used again, with their buffers, timers and channels, by calls after those that got their answer.
	events sync.Pool
	groups sync.Pool

	mu       sync.Mutex
	queue    coalescing.Queue[*event]
	overflow []*event // what found no room, in its order
	idle     bool     // whether the writer waits for wake
	closed   bool
	started  bool
	sent     map[string]*request // under way on the stream, by id
	again    []*request          // to be sent again, in the order in which they were sent first
	count    uint64              // requests, so far
	empty    *sync.Cond          // nothing waits and nothing is under way
	lastErr  *Error              // why the stream cannot be opened, for those who give up

	wake   chan struct{}
	done   chan struct{} // the writer has ended
	ctx    context.Context
	cancel context.CancelFunc
}

func newPublisher(client *Client) *publisher {
	p := &publisher{client: client, sent: map[string]*request{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	p.events.New = func() any { return &event{} }
	p.groups.New = func() any { return newGroup(1) }
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
	g := p.groups.Get().(*group)
	e.group = g
	if err := p.add(e); err != nil {
		return Receipt{}, err
	}
	g.timer.Reset(publishPatience)
	select {
	case <-g.landed:
		g.timer.Stop()
		receipt := e.result
		p.groups.Put(g)
		p.recycle(e)
		err := receipt.Err
		receipt.Err = nil
		return receipt, err
	case <-ctx.Done():
	case <-g.timer.C:
	}
	receipt := p.abandon(ctx, []*event{e})[0]
	err = receipt.Err
	receipt.Err = nil
	return receipt, err
}

// SendOutgoingEvent publishes a message for one subscriber, by the producer's own id of it, and returns when it is durable.
func (c *Client) SendOutgoingEvent(ctx context.Context, subscriber string, message proto.Message) error {
	_, err := c.Publish(ctx, Outgoing{Message: message, Subscriber: subscriber})
	return err
}

// PublishAll publishes many events and returns when each is durable or refused; at most 1,024 of them are on their way at once. The
// receipts are in the order of the events, each with the verdict on its own event; the error is the first of theirs.
//
// It gives up what is left when the context ends, or when none was answered for 60 s, as [Client.Publish] does.
func (c *Client) PublishAll(ctx context.Context, all []Outgoing) ([]Receipt, error) {
	receipts := make([]Receipt, len(all))
	c.publisher.publishAll(ctx, all, receipts)
	for i := range receipts {
		if receipts[i].Err != nil {
			return receipts, receipts[i].Err
		}
	}
	return receipts, nil
}

func (p *publisher) publishAll(ctx context.Context, all []Outgoing, receipts []Receipt) {
	g := newGroup(windowAll)
	g.timer.Reset(publishPatience)
	defer g.timer.Stop()
	underWay := make([]*event, len(all)) // nil once they have landed
	count := 0
	land := func() bool {
		select {
		case e := <-g.landed:
			receipts[e.index], underWay[e.index] = e.result, nil
			p.recycle(e)
			count--
			g.timer.Reset(publishPatience)
			return true
		case <-ctx.Done():
		case <-g.timer.C:
		}
		return false
	}
	next, going := 0, true
	for ; next < len(all) && going; next++ {
		e, err := p.prepare(ctx, &all[next])
		if err == nil {
			e.group, e.index = g, next
			err = p.add(e)
		}
		if err != nil {
			receipts[next].Err = err
			continue
		}
		underWay[next] = e
		count++
		going = count < windowAll || land()
	}
	for going && count > 0 {
		going = land()
	}
	if going {
		return
	}
	for i, receipt := range p.abandon(ctx, underWay) {
		if underWay[i] != nil || i >= next {
			receipts[i] = receipt
		}
	}
}

// prepare encodes an event.
func (p *publisher) prepare(ctx context.Context, out *Outgoing) (*event, error) {
	if err := ctx.Err(); err != nil {
		return nil, asError(err)
	}
	e := p.events.Get().(*event)
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

// abandon gives events up, but for those that are finished by now. It returns the receipts of all; nil stands for one that was not begun.
func (p *publisher) abandon(ctx context.Context, events []*event) []Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := newError(codes.DeadlineExceeded, ReasonTimedOut,
		"the event was not answered in time, and whether it was stored is not known")
	if cause := ctx.Err(); errors.Is(cause, context.Canceled) {
		err = newError(codes.Canceled, codeName(codes.Canceled),
			"the call was cancelled, and whether the event was stored is not known").because(cause)
	} else if cause != nil {
		err.because(cause)
	}
	if p.lastErr != nil {
		err.Message += "; the broker cannot be reached: " + p.lastErr.Error()
	}
	receipts := make([]Receipt, len(events))
	for i, e := range events {
		if e != nil && e.finished {
			receipts[i] = e.result
			continue
		}
		receipts[i].Err = err
		if e != nil {
			e.gone, receipts[i].ID = true, e.result.ID
		}
	}
	p.rouse()
	return receipts
}
