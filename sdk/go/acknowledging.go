package certes

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/ranges"
	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
	"github.com/hookactions/certes-sdk/go/internal/settling"
)

// settlement is the ledger of a stream, shared between the workers, who settle, and the one who tells the broker.
type settlement struct {
	mu     sync.Mutex
	ledger settling.Ledger
	over   bool
	// flushing has everything told at once; flushed is closed when nothing is left to tell.
	flushing bool
	flushed  chan struct{}
	telling  bool
	wake     chan struct{}
}

func (s *settlement) init(maximumOutstanding int) {
	s.ledger.MaximumOutstanding = maximumOutstanding
	s.wake = make(chan struct{}, 1)
	s.flushed = make(chan struct{})
}

func (s *settlement) received(first int64, count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.Received(first, count, time.Now())
}

func (s *settlement) done(ordinal int64, hurry bool) {
	s.change(func(now time.Time) { s.ledger.Done(ordinal, hurry, now) })
}

func (s *settlement) failed(ordinal int64, reason string) {
	s.change(func(now time.Time) { s.ledger.Failed(ordinal, reason, now) })
}

// change settles something, and wakes the one who tells where there is something new for him: the first delivery, or one that cannot
// wait.
func (s *settlement) change(settle func(now time.Time)) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	someBefore, hurriedBefore := s.ledger.Untold()
	settle(now)
	if some, hurried := s.ledger.Untold(); some && !someBefore || hurried && !hurriedBefore {
		s.signal()
	}
}

func (s *settlement) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flush has everything told that is settled, and returns when it is, or the context ends, or the stream has.
func (s *settlement) flush(ctx context.Context) {
	s.mu.Lock()
	s.flushing = true
	s.checkFlushed()
	s.signal()
	s.mu.Unlock()
	select {
	case <-s.flushed:
	case <-ctx.Done():
	}
}

// end lets go of everything.
func (s *settlement) end() {
	s.mu.Lock()
	s.over, s.flushing = true, true
	s.checkFlushed()
	s.signal()
	s.mu.Unlock()
}

func (s *settlement) checkFlushed() {
	if !s.flushing || s.telling && !s.over {
		return
	}
	if some, _ := s.ledger.Untold(); some && !s.over {
		return
	}
	select {
	case <-s.flushed:
	default:
		close(s.flushed)
	}
}

// due says whether there is something to tell, and how long it can wait.
func (s *settlement) due() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	some, _ := s.ledger.Untold()
	if s.flushing {
		return 0, some
	}
	return s.ledger.Due(time.Now()), some
}

func (s *settlement) take(extend bool) settling.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	report := s.ledger.Take(time.Now(), extend)
	s.telling = !report.Empty()
	return report
}

func (s *settlement) told() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.telling = false
	s.checkFlushed()
}

// acknowledge tells the broker what is settled, one Acknowledge at a time, until the stream ends.
func (s *stream) acknowledge(ctx context.Context, events certesv1.EventServiceClient) {
	var name string
	select {
	case name = <-s.opened:
	case <-ctx.Done():
		return
	}
	extending := time.NewTicker(s.sub.deadline() / 3)
	defer extending.Stop()
	gathering := time.NewTimer(0)
	defer gathering.Stop()
	for ctx.Err() == nil {
		var gathered <-chan time.Time
		wait, some := s.settlement.due()
		if some && wait > 0 {
			gathering.Reset(wait)
			gathered = gathering.C
		}
		extend := false
		if some && wait == 0 {
			select {
			case <-extending.C:
				extend = true
			default:
			}
		} else {
			select {
			case <-s.settlement.wake:
				continue
			case <-gathered:
			case <-extending.C:
				extend = true
			case <-ctx.Done():
				return
			}
		}
		report := s.settlement.take(extend)
		s.tell(ctx, events, name, report)
		s.settlement.told()
	}
}

// tell sends one report. It returns when the broker has it, or has refused it for good, or the stream has ended.
func (s *stream) tell(ctx context.Context, events certesv1.EventServiceClient, name string, report settling.Report) {
	for try := 1; !report.Empty() && ctx.Err() == nil; {
		_, err := events.Acknowledge(ctx, acknowledgement(name, report, s.sub.deadline()))
		if err == nil || ctx.Err() != nil {
			return
		}
		refusal := asError(err)
		if left, ok := withoutRefused(report, refusal); ok {
			report = left
			continue
		}
		if refusal.Reason == reasonStreamEnded {
			return // its deliveries come again
		}
		if !mayPass(refusal) {
			s.client.warn("the broker refuses to be told what was settled; it delivers that again", refusal, "subscription", s.sub.name)
			return
		}
		if try == 2 && !refusal.Retryable {
			s.client.warn("the broker cannot be told what was settled; it is tried again", refusal, "subscription", s.sub.name)
		}
		wait := max(refusal.RetryAfter, reconnecting.Wait(try, rand.Float64()))
		try++
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// withoutRefused leaves out the one delivery that a refusal names.
func withoutRefused(report settling.Report, refusal *Error) (settling.Report, bool) {
	if refusal.Reason != reasonOrdinalNotOutstanding {
		return report, false
	}
	ordinal, err := strconv.ParseInt(refusal.Metadata["ordinal"], 10, 64)
	if err != nil {
		return report, false
	}
	return report.Without(ordinal)
}

func acknowledgement(stream string, report settling.Report, deadline time.Duration) *certesv1.AcknowledgeRequest {
	request := &certesv1.AcknowledgeRequest{Stream: stream}
	for _, r := range report.Acked {
		request.Acked = append(request.Acked, ordinalRange(r))
	}
	for _, nack := range report.Nacked {
		request.Nacked = append(request.Nacked, &certesv1.AcknowledgeRequest_Nack{
			Range:  ordinalRange(nack.Range),
			Action: certesv1.AcknowledgeRequest_ACTION_RETRY,
			Reason: nack.Reason,
		})
	}
	for _, r := range report.Extended {
		request.Extended = append(request.Extended, &certesv1.AcknowledgeRequest_Extension{
			Range:    ordinalRange(r),
			Deadline: durationpb.New(deadline),
		})
	}
	return request
}

func ordinalRange(r ranges.Range) *certesv1.OrdinalRange {
	return &certesv1.OrdinalRange{First: r.First, Last: r.Last}
}
