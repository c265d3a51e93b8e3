package certes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/reconnecting"
)

const (
	// What the broker takes in one request.
	maximumRequestEvents = 1000
	maximumRequestBytes  = 4 << 20
	// Field number of PublishRequest.
	publishEvents = 1

	reasonTooManyEvents   = "TOO_MANY_EVENTS"
	reasonRequestTooLarge = "REQUEST_TOO_LARGE"
)

// PublishAll publishes events as a whole: all of them are stored, or none. At most 1,000, and 4 MiB. When it returns without an error all
// are durable, and the receipts are in the order of the events; otherwise there are no receipts. No order is promised with calls that are
// under way at the same time.
//
// It is tried again with the same ids while that may help, and gives up after 60 s, or when the context ends: TIMED_OUT, and whether the
// events were stored is not known.
//
// Errors: TOO_MANY_EVENTS, REQUEST_TOO_LARGE, those of [Client.Publish], and what the broker refuses.
func (c *Client) PublishAll(ctx context.Context, all []Outgoing) ([]Receipt, error) {
	p := c.publisher
	if err := p.enterWhole(); err != nil {
		return nil, err
	}
	defer p.leaveWhole()
	patient, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	receipts, last, err := p.publishAll(patient, all)
	switch {
	case err == nil:
		return receipts, nil
	case ctx.Err() == nil && p.ctx.Err() != nil:
		return nil, endedEarly()
	case patient.Err() != nil:
		return nil, gaveUp(ctx, last)
	}
	return nil, err
}

// enterWhole has Close wait for a call of PublishAll, unless it has begun to end the publisher.
func (p *publisher) enterWhole() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return clientClosed()
	}
	p.whole++
	return nil
}

func (p *publisher) leaveWhole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.whole--
	p.checkEmpty()
}

// publishAll sends one request until it is answered, refused for good, or the context ends. last is the latest refusal that it tried
// again after.
func (p *publisher) publishAll(ctx context.Context, all []Outgoing) (receipts []Receipt, last *Error, err error) {
	wire, receipts, err := p.encodeAll(ctx, all)
	if err != nil || len(all) == 0 {
		return receipts, nil, err
	}
	for try := 1; ; try++ {
		err := p.callPublish(ctx, wire, receipts)
		if err == nil {
			return receipts, nil, nil
		}
		refusal := asError(err)
		if ctx.Err() != nil || !p.client.connector.mayPass(refusal) {
			return nil, last, refusal
		}
		last = refusal
		if try > 1 {
			p.client.connector.doubt()
		}
		timer := time.NewTimer(max(refusal.RetryAfter, reconnecting.Wait(try, rand.Float64())))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, last, ctx.Err()
		}
	}
}

// callPublish tries once, and completes the receipts.
func (p *publisher) callPublish(ctx context.Context, wire []byte, receipts []Receipt) error {
	connection, err := p.client.connector.connect(ctx)
	if err != nil {
		return err
	}
	var answer certesv1.PublishResponse
	// Not pooled: gRPC may still write it when the call has ended.
	request := outgoingWire{mem.SliceBuffer(wire)}
	if err := connection.channel.Invoke(ctx, certesv1.EventService_Publish_FullMethodName, request, &answer); err != nil {
		return err
	}
	results := answer.GetResults()
	if len(results) != len(receipts) {
		refusal := newError(codes.Internal, codeName(codes.Internal), "the broker says what became of %d events, of %d", len(results), len(receipts))
		refusal.nonsense = true
		return refusal
	}
	for i := range receipts {
		receipts[i].Duplicate, receipts[i].Name = results[i].GetDuplicate(), results[i].GetName()
	}
	return nil
}

// encodeAll returns the wire form of a PublishRequest, and receipts that have nothing but ids.
func (p *publisher) encodeAll(ctx context.Context, all []Outgoing) ([]byte, []Receipt, error) {
	if len(all) > maximumRequestEvents {
		return nil, nil, tooMany(len(all))
	}
	var wire, buffer []byte
	size := 0
	receipts := make([]Receipt, 0, len(all))
	for i := range all {
		if err := ctx.Err(); err != nil {
			return nil, nil, asError(err)
		}
		out := &all[i]
		id := out.ID
		if id == "" {
			id = p.ids.next()
		}
		written, begin, err := p.client.encode(ctx, out, id, buffer)
		if err != nil {
			return nil, nil, inPlace(asError(err), i)
		}
		buffer = written
		// What encode writes is a field of another request, whose tag is as long.
		event := written[begin+protowire.SizeTag(requestEvents):]
		if size += protowire.SizeTag(publishEvents) + len(event); size <= maximumRequestBytes {
			wire = append(protowire.AppendTag(wire, publishEvents, protowire.BytesType), event...)
		}
		receipts = append(receipts, Receipt{ID: id})
	}
	if size > maximumRequestBytes {
		return nil, nil, requestTooLarge(size)
	}
	return wire, receipts, nil
}

// inPlace says which of many events is at fault.
func inPlace(refusal *Error, index int) *Error {
	if refusal.Code == codes.InvalidArgument {
		refusal.Message = fmt.Sprintf("events[%d]: %s", index, refusal.Message)
	}
	return refusal
}

// tooMany refuses what the broker would, in its words.
func tooMany(events int) *Error {
	e := newError(codes.InvalidArgument, reasonTooManyEvents, "events: has %d events; %d are allowed in one request", events, maximumRequestEvents).
		with("field", "events").with("limit", strconv.Itoa(maximumRequestEvents)).
		hinting("Send the rest in further requests.")
	e.Violations = []Violation{{"events", fmt.Sprintf("has %d events; %d are allowed in one request", events, maximumRequestEvents)}}
	return e
}

// requestTooLarge refuses what the broker would, in its words.
func requestTooLarge(size int) *Error {
	return newError(codes.InvalidArgument, reasonRequestTooLarge, "The request has %d bytes; %d are allowed.", size, maximumRequestBytes).
		with("bytes", strconv.Itoa(size)).with("limit", strconv.Itoa(maximumRequestBytes)).
		hinting("Send fewer events in one request.")
}
