package certes

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// A broker that talks nonsense may cost its clients time, and nothing else.

func sendWire(call grpc.ServerStream, wire []byte) error {
	return call.SendMsg(outgoingWire{mem.SliceBuffer(wire)})
}

func TestFramesThatAreNonsenseBreakTheirStreamAndTheNextOneIsRead(t *testing.T) {
	good := mustMarshal(t, batchOf(1, deliveryOf(t, "a")))
	for name, wire := range map[string][]byte{
		"no protobuf":                 []byte("\xff\xff\xff"),
		"a batch that is cut off":     good[:len(good)-1],
		"a batch without deliveries":  []byte("\x12\x02\x08\x01"),
		"a batch without its ordinal": []byte("\x12\x02\x12\x00"),
		"an ordinal below 1":          []byte("\x12\x0d\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x00"),
		"a batch of nonsense":         []byte("\x12\x03\x0f\x0f\x0f"),
		"deliveries that are numbers": []byte("\x12\x04\x08\x01\x10\x01"),
	} {
		synctest.Test(t, func(t *testing.T) {
			broker, at := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
				if n > 1 {
					return serve(opened("s"), batchOf(1, deliveryOf(t, "a")))(nil, call)
				}
				_ = call.Send(opened("s"))
				_ = sendWire(call, wire)
				return beat(call)
			})
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			pass(time.Minute)
			if len(at()) != 2 || !slices.Equal(broker.acked(), []int64{1}) {
				t.Errorf("%s: streams were opened at %v, and acknowledged is %v", name, at(), broker.acked())
			}
		})
	}
}

func TestFramesThatMeanNothingArePassedOver(t *testing.T) {
	for name, wire := range map[string][]byte{
		"nothing":          {},
		"a later frame":    []byte("\xfa\x01\x02hi"),
		"a second opening": mustMarshal(t, opened("another")),
	} {
		synctest.Test(t, func(t *testing.T) {
			broker, at := openings(func(_ int, call certesv1.EventService_SubscribeServer) error {
				_ = call.Send(opened("s"))
				_ = sendWire(call, wire)
				return serve(batchOf(1, deliveryOf(t, "a")))(nil, call)
			})
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			pass(10 * time.Second)
			if len(at()) != 1 || !slices.Equal(broker.acked(), []int64{1}) || broker.acknowledged()[0].GetStream() != "s" {
				t.Errorf("%s: streams were opened at %v, and acknowledged is %v", name, at(), broker.acknowledged())
			}
		})
	}
}

func TestOrdinalsThatAreNonsenseSettleNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const last = 1<<63 - 1
		broker := &fakeBroker{subscribe: serve(opened("s"),
			batchOf(last, deliveries(t, 1, 3)...), // beyond what an ordinal can be
			batchOf(5, deliveries(t, 4, 5)...), batchOf(5, deliveries(t, 6, 7)...), batchOf(2, deliveries(t, 8, 8)...))}
		client := newTestClient(t, broker)
		var handled record[string]
		consuming(t, client, func(_ context.Context, raw *RawEvent) error {
			handled.add(raw.ID)
			return nil
		})
		pass(time.Minute)
		for _, ordinal := range broker.acked() {
			if ordinal != 2 && ordinal != 5 && ordinal != 6 && ordinal != last {
				t.Errorf("acknowledged is %v", broker.acked())
			}
		}
		if handled.len() != 8 {
			t.Errorf("handled is %v", handled.get())
		}
	})
}

func TestGarbledFramesAreNeverTheEndOfTheProgram(t *testing.T) {
	chance := rand.New(rand.NewPCG(3, 4))
	frames := [][]byte{
		mustMarshal(t, opened("s")), mustMarshal(t, batchOf(1, deliveries(t, 1, 3)...)), mustMarshal(t, heartbeat()),
		mustMarshal(t, closing(certesv1.SubscribeResponse_REASON_DRAINING)),
	}
	client := offline(t, WithLogger(discard))
	client.On(brokerDomain+"/**", func(context.Context, *RawEvent) error { return nil })
	refused := 0
	for i := range 20_000 {
		s := &stream{client: client, sub: &subscription{name: "s"}, opened: make(chan string, 1)}
		s.settlement.init(1000)
		wire := slices.Clone(frames[i%len(frames)])
		wire[chance.IntN(len(wire))] = byte(chance.IntN(256))
		if _, err := s.take(wire[:chance.IntN(len(wire)+1)]); err != nil {
			refused++
		}
		_ = s.settlement.take(true)
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAnswersToPublishingThatAreNonsenseBreakTheStreamAndTheEventIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		streams := 0
		broker.publish = func(call certesv1.EventService_PublishStreamServer) error {
			streams++
			request, err := call.Recv()
			if err != nil {
				return nil //nolint:nilerr // the client has gone
			}
			broker.took(request)
			if streams == 1 {
				_ = sendWire(call, []byte("\xff\xff\xff"))
				<-call.Context().Done()
				return nil
			}
			_ = call.Send(accepted(request))
			<-call.Context().Done()
			return nil
		}
		receipt, err := newTestClient(t, broker).Publish(t.Context(), Outgoing{Message: done(t, "x"), Everyone: true})
		sent := idsOf(broker.requests())
		if err != nil || len(sent) != 2 || !slices.Equal(sent[0], sent[1]) || sent[0][0] != receipt.ID {
			t.Errorf("it returns %+v, %v; sent is %v", receipt, err, sent)
		}
	})
}

func TestAnAnswerToPublishingThatSaysNothingIsAFailureWithAReason(t *testing.T) {
	for name, problem := range map[string]*certesv1.Problem{"neither": nil, "an empty one": {}, "a code that is none": {Code: 77}} {
		synctest.Test(t, func(t *testing.T) {
			broker := &fakeBroker{}
			gate := newGate(broker)
			client := newTestClient(t, broker)
			outcomes := publishing(t, client, Outgoing{ID: "a"})
			answer := rejected(<-gate.arrived, problem)
			if problem == nil {
				answer.Outcome = nil
			}
			gate.answers <- answer
			if err := outcomes()[0]; err == nil || ReasonOf(err) == "" || asError(err).Code == codes.OK || asError(err).Message == "" {
				t.Errorf("%s: it fails with %#v", name, err)
			}
		})
	}
}

func TestAnAnswerWithTooFewResultsIsAcceptedWithoutThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		go func() {
			answer := accepted(<-gate.arrived)
			answer.GetAccepted().Results = nil
			gate.answers <- answer
		}()
		receipt, err := client.Publish(t.Context(), Outgoing{Message: done(t, "x"), Everyone: true, ID: "mine"})
		if err != nil || receipt != (Receipt{ID: "mine"}) {
			t.Errorf("it returns %+v, %v", receipt, err)
		}
	})
}
