package certes

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// deadSilence is how long a stream may say nothing: a heartbeat comes every 15 s.
const deadSilence = 45 * time.Second

// stream is one open Subscribe stream. Its rules:
//
//   - One goroutine reads frames, hands deliveries to the workers, and is never held up by them. Another one acknowledges.
//   - When it has ended, nothing of it is begun any more; what runs, runs to its end, and its outcome concerns nobody.
type stream struct {
	client *Client
	sub    *subscription

	opened chan string // the stream's name, once
	ended  atomic.Bool
	alive  *time.Timer

	settlement settlement
	batches    atomic.Int64
}

var errSilent = errors.New("it said nothing for 45 s")

// runStream opens a stream and reads it until it ends. It returns why it did, and whether a batch came.
func (c *Client) runStream(ctx context.Context, sub *subscription) (progressed bool, err error) {
	connection, err := c.connector.connect(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	outstanding := int32(c.settings.maxOutstanding)
	description := &certesv1.EventService_ServiceDesc.Streams[subscribeStream]
	call, err := connection.channel.NewStream(ctx, description, certesv1.EventService_Subscribe_FullMethodName)
	if err != nil {
		return false, err
	}
	s := &stream{client: c, sub: sub, opened: make(chan string, 1)}
	s.settlement.init(c.settings.maxOutstanding)
	s.alive = time.AfterFunc(deadSilence, func() { cancel(errSilent) })
	defer s.alive.Stop()
	request := &certesv1.SubscribeRequest{
		Target:         &certesv1.SubscribeRequest_Subscription{Subscription: sub.name},
		MaxOutstanding: &outstanding,
	}
	if call.SendMsg(request) == nil {
		_ = call.CloseSend() // where either fails, RecvMsg says why
	}
	var acknowledging sync.WaitGroup
	acknowledging.Go(func() { s.acknowledge(ctx, connection.events) })
	sub.enter(s)
	err = s.read(ctx, call)
	sub.leave(s)
	s.ended.Store(true)
	s.settlement.end()
	cancel(nil)
	acknowledging.Wait()
	return s.batches.Load() > 0, err
}

// Positions in the service's list of streams; a test holds them to it.
const (
	publishStream   = 0
	subscribeStream = 1
)

// read takes frames until the stream ends, and returns why it did: a closingError, or what gRPC says.
func (s *stream) read(ctx context.Context, call grpc.ClientStream) error {
	var closing error
	for {
		var frame incomingWire
		if err := call.RecvMsg(&frame); err != nil {
			switch {
			case closing != nil:
				return closing
			case errors.Is(context.Cause(ctx), errSilent):
				return newError(codes.Unavailable, codeName(codes.Unavailable), "the stream of %s is dead: %v", s.sub.name, errSilent)
			case errors.Is(err, io.EOF):
				return newError(codes.Unavailable, codeName(codes.Unavailable), "the stream of %s ended without a word", s.sub.name)
			}
			return err
		}
		s.alive.Reset(deadSilence)
		ended, err := s.take(frame.bytes)
		if err != nil {
			return err
		}
		if ended != nil {
			closing = ended
		}
	}
}

// closingError is what the broker says when it ends a stream.
type closingError struct {
	reason  certesv1.SubscribeResponse_Reason
	message string
}

// Error returns the reason and what the broker says of it.
func (c *closingError) Error() string { return c.reason.String() + ": " + c.message }

const (
	frameBatch        = 2
	batchFirstOrdinal = 1
	batchDeliveries   = 2
)

// take handles one frame. Batches, which are almost all of them, are taken apart without a message for each part.
func (s *stream) take(wire []byte) (closing, err error) {
	if number, kind, n := protowire.ConsumeTag(wire); number == frameBatch && kind == protowire.BytesType {
		if batch, m := protowire.ConsumeBytes(wire[n:]); m >= 0 && n+m == len(wire) {
			return nil, s.takeBatch(batch)
		}
	}
	var frame certesv1.SubscribeResponse
	if err := proto.Unmarshal(wire, &frame); err != nil {
		return nil, newError(codes.Internal, codeName(codes.Internal), "the broker sent a frame that does not decode: %v", err)
	}
	switch frame := frame.GetFrame().(type) {
	case *certesv1.SubscribeResponse_Opened_:
		select {
		case s.opened <- frame.Opened.GetStream():
		default:
		}
	case *certesv1.SubscribeResponse_Closing_:
		return &closingError{frame.Closing.GetReason(), frame.Closing.GetMessage()}, nil
	}
	return nil, nil
}

func (s *stream) takeBatch(wire []byte) error {
	var first int64
	deliveries := make([]delivery, 0, 64)
	err := fields(wire, func(number protowire.Number, value []byte, varint uint64) error {
		switch number {
		case batchFirstOrdinal:
			first = int64(varint)
		case batchDeliveries:
			if value == nil {
				return errMalformedDelivery // a number is none
			}
			deliveries = append(deliveries, delivery{stream: s, wire: value})
		}
		return nil
	})
	if err != nil || first < 1 || len(deliveries) == 0 {
		return newError(codes.Internal, codeName(codes.Internal), "the broker sent a batch that does not decode")
	}
	s.batches.Add(1)
	s.settlement.received(first, len(deliveries))
	all := make([]work, len(deliveries))
	for i := range deliveries {
		deliveries[i].ordinal = first + int64(i)
		all[i] = &deliveries[i]
	}
	s.client.workers.add(all...)
	return nil
}

// delivery is one delivery of a stream, in its wire form until a worker has time for it.
type delivery struct {
	stream  *stream
	ordinal int64
	wire    []byte
}

// drop leaves it to the broker, which has it again when the stream ends.
func (d *delivery) drop() {}

func (d *delivery) run() {
	s := d.stream
	if s.ended.Load() {
		return // it comes again
	}
	raw, err := readDelivery(d.wire)
	if err != nil {
		failure := newError(codes.InvalidArgument, ReasonDataMalformed, "%v", err)
		s.client.reportFailure(nil, failure)
		s.settlement.failed(d.ordinal, failure.Message)
		return
	}
	raw.brokerDomain = s.client.connector.domain
	var failure *Error
	returned := false
	defer func() {
		switch {
		case !returned:
			failure = goroutineEnded()
		case failure == nil:
			s.settlement.done(d.ordinal, raw.OrderingKey != "")
			return
		}
		s.client.reportFailure(raw, failure)
		s.settlement.failed(d.ordinal, failure.told())
	}()
	failure = s.client.handlers.handle(s.client.handling, raw)
	returned = true
}

// goroutineEnded is the failure of a handler that called runtime.Goexit, as t.FailNow does.
func goroutineEnded() *Error {
	return newError(codes.Internal, ReasonHandlerFailed, "the handler ended its goroutine")
}
