package certes

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/coalescing"
	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
)

// fewRequests is how many requests are sent without being full. gRPC takes a request and writes it later, so that to write never takes
// long enough for more to queue up; and a broker that is sent one request for each event spends itself on requests. So once this many are
// unanswered, the next one goes when it is full, or when one of them is answered. At 256 callers that makes requests of 54 events instead of
// 1.2, and a fifth of the work for the broker. Whoever publishes now and then waits for nothing.
const fewRequests = 4

// write keeps a stream open while there is something to send, until the publisher is closed and empty.
func (p *publisher) write() {
	defer close(p.done)
	for try := 0; p.waitForWork(); {
		progressed, err := p.runStream()
		if p.ctx.Err() != nil {
			break
		}
		if progressed {
			try = 0
		}
		try++
		refusal := asError(err)
		p.broke(refusal)
		if !p.client.connector.mayPass(refusal) {
			p.refuseAll(refusal)
		}
		if try > 1 {
			p.client.connector.doubt()
		}
		timer := time.NewTimer(max(refusal.RetryAfter, reconnecting.Wait(try, rand.Float64())))
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			timer.Stop()
		}
	}
	p.refuseAll(endedEarly())
}

// endedEarly is the failure of calls that Close waited for in vain.
func endedEarly() *Error {
	return newError(codes.DeadlineExceeded, ReasonTimedOut, "the client was closed before it was answered, and whether it was stored is not known")
}

// waitForWork waits until there is something to send. It returns false when that will not be any more.
func (p *publisher) waitForWork() bool {
	for {
		p.mu.Lock()
		p.purge()
		waiting, _ := p.queue.Waiting()
		underWay, _ := p.queue.UnderWay()
		if waiting+underWay > 0 && p.ctx.Err() == nil {
			p.mu.Unlock()
			return true
		}
		p.idle = true
		p.mu.Unlock()
		select {
		case <-p.wake:
		case <-p.ctx.Done():
			return false
		}
	}
}

// runStream opens a stream and sends on it until it breaks. It returns why it did, and whether something was answered.
func (p *publisher) runStream() (progressed bool, err error) {
	connection, err := p.client.connector.connect(p.ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	description := &certesv1.EventService_ServiceDesc.Streams[publishStream]
	call, err := connection.channel.NewStream(ctx, description, certesv1.EventService_PublishStream_FullMethodName)
	if err != nil {
		return false, err
	}
	broken := make(chan error, 1)
	go func() {
		var answer certesv1.PublishStreamResponse
		for {
			if err := call.RecvMsg(&answer); err != nil {
				broken <- err
				return
			}
			progressed = true
			p.answered(&answer)
		}
	}()
	for {
		next, err := p.next(broken)
		if next == nil {
			cancel()
			if err == nil {
				err = <-broken
			}
			return progressed, err
		}
		if call.SendMsg(encodeRequest(next)) != nil {
			cancel() // where gRPC has not ended it itself; the reader says why
			return progressed, streamEnd(<-broken)
		}
	}
}

// streamEnd turns the end of a stream into an error that says so.
func streamEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return newError(codes.Unavailable, codeName(codes.Unavailable), "the broker ended the stream")
	}
	return err
}

// next returns the next request to send, which is under way from then on. It waits for one; nil and an error say that the stream broke.
func (p *publisher) next(broken <-chan error) (*request, error) {
	p.mu.Lock()
	for {
		found, wait := p.take()
		if found != nil {
			p.mu.Unlock()
			return found, nil
		}
		p.idle = true
		p.mu.Unlock()
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case err := <-broken:
			return nil, streamEnd(err)
		case <-p.ctx.Done():
			return nil, nil
		case <-due:
		case <-p.wake:
			// Whoever was let go by the same answer has something to send as well. Those who are ready to run go first, and nobody
			// is waited for: requests of many events cost the broker a fraction of as many requests.
			runtime.Gosched()
		}
		p.mu.Lock()
		p.idle = false
	}
}

// take returns the next request, or how long to wait before one is due; 0 where none will be. The caller has the lock.
func (p *publisher) take() (*request, time.Duration) {
	now := time.Now()
	var wait time.Duration
	p.leaveGoneAgain()
	for i, next := range p.again {
		left := next.due.Sub(now)
		if left <= 0 {
			p.again = slices.Delete(p.again, i, i+1)
			return p.send(next), 0
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	for {
		if len(p.sent) >= fewRequests && !p.isFull() {
			return nil, wait
		}
		fresh := &request{events: p.queue.Take(nil)}
		if len(fresh.events) == 0 {
			p.checkEmpty()
			return nil, wait
		}
		p.admit()
		if p.leaveGone(fresh); len(fresh.events) > 0 {
			p.count++
			fresh.order = p.count
			return p.send(fresh), 0
		}
	}
}

// isFull says whether what waits fills a request. The caller has the lock.
func (p *publisher) isFull() bool {
	events, bytes := p.queue.Waiting()
	return events >= coalescing.RequestEvents || bytes >= coalescing.RequestBytes
}

// send counts a try, under an id that no other has had. The caller has the lock.
func (p *publisher) send(r *request) *request {
	r.tries++
	r.id = strconv.FormatUint(r.order, 36) + "." + strconv.Itoa(r.tries)
	p.sent[r.id] = r
	return r
}

// leaveGone takes those events out of a request that nobody waits for. The caller has the lock.
func (p *publisher) leaveGone(r *request) {
	isGone := func(e *event) bool { return e.gone }
	if !slices.ContainsFunc(r.events, isGone) {
		return
	}
	var gone []*event
	for _, e := range r.events {
		if e.gone {
			gone = append(gone, e)
		}
	}
	r.events = slices.DeleteFunc(r.events, isGone)
	p.queue.Answered(gone)
}

// leaveGoneAgain does so with those that wait to be sent again, so that they hold no key for longer. The caller has the lock.
func (p *publisher) leaveGoneAgain() {
	for _, r := range p.again {
		p.leaveGone(r)
	}
	p.again = slices.DeleteFunc(p.again, func(r *request) bool { return len(r.events) == 0 })
}

// purge forgets what waits and nobody waits for. The caller has the lock.
func (p *publisher) purge() {
	p.queue.Purge(func(e *event) bool { return e.gone })
	p.overflow = slices.DeleteFunc(p.overflow, func(e *event) bool { return e.gone })
	p.leaveGoneAgain()
	p.admit()
	p.checkEmpty()
	p.given = 0
}

// answered takes the answer to one request.
func (p *publisher) answered(answer *certesv1.PublishStreamResponse) {
	p.mu.Lock()
	r := p.sent[answer.GetRequestId()]
	if r == nil {
		p.mu.Unlock()
		return
	}
	delete(p.sent, r.id)
	p.lastErr = nil
	finished := r.events
	switch {
	case answer.GetAccepted() != nil:
		r.accept(answer.GetAccepted())
	default:
		finished = p.rejected(r, errorOfProblem(answer.GetRejected()))
	}
	p.finish(finished)
	p.mu.Unlock()
	release(finished)
}

// rejected decides what becomes of a refused request, and returns the events that are done with. The caller has the lock.
func (p *publisher) rejected(r *request, refusal *Error) []*event {
	switch {
	case refusal.Retryable:
		r.due = time.Now().Add(max(refusal.RetryAfter, reconnecting.Wait(r.tries, rand.Float64())))
		p.again = append(p.again, r)
		p.rouse() // it may be due before what the writer waits for
		return nil
	case len(r.events) > 1:
		// Told again one by one, so that each call gets its own verdict.
		for _, e := range r.events {
			e.alone = true
		}
		p.queue.Return(r.events)
		p.rouse()
		return nil
	}
	r.events[0].refusal = refusal
	return r.events
}

// finish lets go of events that are under way no more. The caller has the lock, and releases their callers without it.
func (p *publisher) finish(events []*event) {
	if len(events) == 0 {
		return
	}
	p.queue.Answered(events)
	for _, e := range events {
		e.finished = true
	}
	p.admit()
	if waiting, _ := p.queue.Waiting(); waiting > 0 {
		p.rouse()
	}
	p.checkEmpty()
}

// release lets the callers of finished events go. They may use the events again at once.
func release(finished []*event) {
	for _, e := range finished {
		e.landed <- struct{}{}
	}
}

// broke puts what was under way on a stream in front of what is sent on the next one.
func (p *publisher) broke(refusal *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastErr = refusal
	for _, r := range p.sent {
		r.due = time.Time{}
		p.again = append(p.again, r)
	}
	clear(p.sent)
	slices.SortFunc(p.again, func(a, b *request) int { return cmp.Compare(a.order, b.order) })
}

// refuseAll gives everything the same verdict.
func (p *publisher) refuseAll(refusal *Error) {
	p.mu.Lock()
	var underWay []*event
	for _, r := range p.again {
		underWay = append(underWay, r.events...)
	}
	for _, r := range p.sent {
		underWay = append(underWay, r.events...)
	}
	p.again = nil
	clear(p.sent)
	all := slices.Concat(p.queue.Drain(), p.overflow)
	p.overflow = nil
	for _, e := range slices.Concat(underWay, all) {
		e.refusal = refusal
		e.finished = true
	}
	p.finish(underWay)
	p.checkEmpty()
	p.mu.Unlock()
	release(underWay)
	release(all)
}

// checkEmpty tells close when nothing waits and nothing is under way. The caller has the lock.
func (p *publisher) checkEmpty() {
	if p.closed && p.isEmpty() {
		p.empty.Broadcast()
	}
}

func (p *publisher) isEmpty() bool {
	waiting, _ := p.queue.Waiting()
	underWay, _ := p.queue.UnderWay()
	return waiting+underWay+len(p.overflow)+p.whole == 0
}

// close takes no more events, waits until those that it has are answered, at most until the context ends, and ends the stream.
func (p *publisher) close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.empty.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	p.closed = true
	started := p.started
	p.rouse()
	for !p.isEmpty() && ctx.Err() == nil {
		p.empty.Wait()
	}
	p.mu.Unlock()
	p.cancel()
	if started {
		<-p.done
	}
}
