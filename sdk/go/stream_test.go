package certes

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// refusal makes a status as the broker does.
func refusal(t *testing.T, code codes.Code, reason string, metadata map[string]string) error {
	t.Helper()
	s, err := status.New(code, "it is refused").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "certes.dev", Metadata: metadata})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// consuming registers a handler and ensures the subscription.
func consuming(t *testing.T, client *testClient, handler Handler) {
	t.Helper()
	client.On(brokerDomain+"/**", handler)
	client.ensure(t)
}

func nothing(context.Context, *RawEvent) error { return nil }

func deliveries(t *testing.T, first, last int, change ...func(*certesv1.Event)) (all []*certesv1.Delivery) {
	t.Helper()
	for i := first; i <= last; i++ {
		all = append(all, deliveryOf(t, fmt.Sprint(i), change...))
	}
	return all
}

func TestTheStreamBeginsOnceThereAreASubscriptionAndAHandlerInEitherOrder(t *testing.T) {
	for _, handlerFirst := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveryOf(t, "a")))}
			client := newTestClient(t, broker)
			var got record[string]
			handler := func(_ context.Context, raw *RawEvent) error {
				got.add(raw.ID)
				return nil
			}
			if handlerFirst {
				consuming(t, client, handler)
			} else {
				client.ensure(t)
				synctest.Wait()
				client.On(brokerDomain+"/**", handler)
			}
			pass(time.Second)
			if !slices.Equal(got.get(), []string{"a"}) || !slices.Equal(broker.acked(), []int64{1}) {
				t.Errorf("handled is %v, acknowledged %v", got.get(), broker.acked())
			}
		})
	}
}

func TestWhatIsSettledIsToldTogetherAfterTenMilliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 100)...), batchOf(101, deliveries(t, 101, 200)...))}
		var told record[time.Duration]
		began := time.Now()
		broker.acknowledge = func(*certesv1.AcknowledgeRequest) error {
			told.add(time.Since(began))
			return nil
		}
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(time.Second)
		if !slices.Equal(told.get(), []time.Duration{10 * time.Millisecond}) {
			t.Errorf("it was told after %v", told.get())
		}
		if ranges := broker.acknowledged()[0].GetAcked(); len(ranges) != 1 || ranges[0].GetLast() != 200 {
			t.Errorf("it was told %v", ranges)
		}
	})
}

func TestWhatCannotWaitIsToldAtOnce(t *testing.T) {
	keyed := func(event *certesv1.Event) { event.OrderingKey = "k" }
	for name, v := range map[string]struct {
		deliveries []*certesv1.Delivery
		handler    Handler
	}{
		"a key":     {deliveries(t, 1, 1, keyed), nothing},
		"a failure": {deliveries(t, 1, 1), func(context.Context, *RawEvent) error { return errors.New("no") }},
		"a quarter": {deliveries(t, 1, 25), nothing},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var told record[time.Duration]
			broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, v.deliveries...))}
			broker.acknowledge = func(*certesv1.AcknowledgeRequest) error {
				told.add(time.Since(began))
				return nil
			}
			client := newTestClient(t, broker, WithMaxOutstanding(100))
			consuming(t, client, v.handler)
			pass(time.Second)
			if told.len() == 0 || told.get()[0] != 0 {
				t.Errorf("%s was told after %v", name, told.get())
			}
		})
	}
}

func TestAFailureIsToldWithItsTextAndReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 4)...))}
		client := newTestClient(t, broker, WithConcurrency(1))
		consuming(t, client, func(_ context.Context, raw *RawEvent) error {
			switch raw.ID {
			case "1":
				return errors.New(strings.Repeat("ä", 1000))
			case "2":
				panic("oh")
			case "3":
				var other certesv1.VersionUpdate
				return raw.To(&other)
			}
			return nil
		})
		pass(time.Second)
		told := map[int64]string{}
		for _, request := range broker.acknowledged() {
			for _, nack := range request.GetNacked() {
				told[nack.GetRange().GetFirst()] = nack.GetReason()
				if nack.GetAction() != certesv1.AcknowledgeRequest_ACTION_RETRY || nack.GetDelay() != nil {
					t.Errorf("it is told %v", nack)
				}
			}
		}
		if told[1] != strings.Repeat("ä", 512) || told[2] != "panic: oh" || !strings.HasPrefix(told[3], "DATA_TYPE_MISMATCH: ") || len(told) != 3 {
			t.Errorf("it is told %v", told)
		}
		if !slices.Equal(broker.acked(), []int64{4}) {
			t.Errorf("acknowledged is %v", broker.acked())
		}
		if client.log.count("an event failed") != 3 || client.log.count("level=WARN") != 3 {
			t.Errorf("the log says %s", client.log)
		}
	})
}

func TestAnEventThatNobodyHandlesHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveryOf(t, "a")))}
		client := newTestClient(t, broker)
		client.On("other.example/**", nothing)
		client.ensure(t)
		pass(time.Second)
		if nacked := broker.acknowledged()[0].GetNacked(); len(nacked) != 1 || !strings.HasPrefix(nacked[0].GetReason(), "NO_HANDLER: ") {
			t.Errorf("it is told %v", nacked)
		}
		if client.log.count("NO_HANDLER") != 1 {
			t.Errorf("the log says %s", client.log)
		}
	})
}

func TestNoMoreEventsAreHandledAtOnceThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 20)...))}
		client := newTestClient(t, broker, WithConcurrency(3))
		begun := make(chan struct{}, 20)
		consuming(t, client, func(context.Context, *RawEvent) error {
			begun <- struct{}{}
			time.Sleep(time.Minute)
			return nil
		})
		synctest.Wait()
		if len(begun) != 3 {
			t.Errorf("%d events are handled at once", len(begun))
		}
		pass(8 * time.Minute)
		if len(begun) != 20 || len(broker.acked()) != 20 {
			t.Errorf("%d events were begun, %d acknowledged", len(begun), len(broker.acked()))
		}
	})
}

func TestTheTimeOfWhatRunsOrWaitsIsExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 3)...))}
		broker.update = func(request *certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
			request.Subscription.AckDeadline = durationpb.New(12 * time.Second)
			return request.GetSubscription(), nil
		}
		client := newTestClient(t, broker, WithConcurrency(2))
		consuming(t, client, func(_ context.Context, raw *RawEvent) error {
			if raw.ID != "1" {
				time.Sleep(2 * time.Hour)
			}
			return nil
		})
		pass(9 * time.Second)
		extensions := 0
		for _, request := range broker.acknowledged() {
			for _, extension := range request.GetExtended() {
				extensions++
				if extension.GetRange().GetFirst() != 2 || extension.GetRange().GetLast() != 3 || extension.GetDeadline().AsDuration() != 12*time.Second {
					t.Errorf("extended is %v", extension)
				}
			}
		}
		if extensions != 2 {
			t.Errorf("after 9 s of a deadline of 12 s, the time was extended %d times", extensions)
		}
		pass(61 * time.Minute)
		before := len(broker.acknowledged())
		pass(10 * time.Minute)
		if after := len(broker.acknowledged()); after != before {
			t.Error("after an hour the time is still extended")
		}
		pass(time.Hour)
	})
}

func TestAnOrdinalThatIsNotOutstandingIsLeftOutAndTheRestToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 5)...))}
		var told record[*certesv1.AcknowledgeRequest]
		broker.acknowledge = func(request *certesv1.AcknowledgeRequest) error {
			if told.add(request) == 1 {
				return refusal(t, codes.InvalidArgument, "ORDINAL_NOT_OUTSTANDING", map[string]string{"ordinal": "3"})
			}
			return nil
		}
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(time.Second)
		if got := broker.acked(); !slices.Equal(got, []int64{1, 2, 4, 5}) || told.len() != 2 {
			t.Errorf("acknowledged is %v in %d requests", got, told.len())
		}
	})
}

func TestAStreamThatHasEndedLetsGoOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 5)...))}
		var told record[*certesv1.AcknowledgeRequest]
		broker.acknowledge = func(request *certesv1.AcknowledgeRequest) error {
			told.add(request)
			return refusal(t, codes.FailedPrecondition, "STREAM_ENDED", nil)
		}
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(time.Minute)
		if told.len() != 1 || client.log.String() != "" {
			t.Errorf("it was told %d times; the log says %s", told.len(), client.log)
		}
	})
}

func TestAnAcknowledgementThatIsRetryableIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 5)...))}
		var told record[*certesv1.AcknowledgeRequest]
		broker.acknowledge = func(request *certesv1.AcknowledgeRequest) error {
			if told.add(request) < 4 {
				return refusal(t, codes.Unavailable, "STORAGE_UNAVAILABLE", nil)
			}
			return nil
		}
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(10 * time.Second)
		if got := broker.acked(); len(got) != 5 || told.len() != 4 {
			t.Errorf("acknowledged is %v in %d requests", got, told.len())
		}
	})
}

func TestOneAcknowledgementIsUnderWayAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 10)...), batchOf(11, deliveries(t, 11, 20)...))}
		var underWay atomic.Int32
		var most record[int32]
		broker.acknowledge = func(*certesv1.AcknowledgeRequest) error {
			most.add(underWay.Add(1))
			time.Sleep(time.Second)
			underWay.Add(-1)
			return nil
		}
		client := newTestClient(t, broker, WithConcurrency(1))
		consuming(t, client, func(context.Context, *RawEvent) error {
			time.Sleep(100 * time.Millisecond)
			return nil
		})
		pass(10 * time.Second)
		if slices.Max(most.get()) != 1 || len(broker.acked()) != 20 || len(broker.acknowledged()) > 5 {
			t.Errorf("%d were under way at once, of %d, for %d events", slices.Max(most.get()), len(broker.acknowledged()), len(broker.acked()))
		}
	})
}

func TestADeliveryThatDoesNotDecodeHasFailedAndTheOthersHaveNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := offline(t, WithLogger(discard))
		handled := record[string]{}
		client.On(brokerDomain+"/**", func(_ context.Context, raw *RawEvent) error {
			handled.add(raw.ID)
			return nil
		})
		s := &stream{client: client, sub: &subscription{name: "s"}}
		s.settlement.init(1000)
		batch := protowire.AppendVarint(protowire.AppendTag(nil, batchFirstOrdinal, protowire.VarintType), 1)
		for _, wire := range [][]byte{mustMarshal(t, deliveryOf(t, "a")), []byte("\x2a\x03\x0a\x01\xff"), mustMarshal(t, deliveryOf(t, "b"))} {
			batch = protowire.AppendBytes(protowire.AppendTag(batch, batchDeliveries, protowire.BytesType), wire)
		}
		if err := s.takeBatch(batch); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		report := s.settlement.take(false)
		if fmt.Sprint(report.Acked) != "[{1 1} {3 3}]" || len(report.Nacked) != 1 || handled.len() != 2 {
			t.Errorf("handled is %v, and told %v", handled.get(), report)
		}
	})
}

func TestAHandlerThatEndsItsGoroutineHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 3)...))}
		client := newTestClient(t, broker, WithConcurrency(1))
		consuming(t, client, func(_ context.Context, raw *RawEvent) error {
			if raw.ID == "2" {
				runtime.Goexit()
			}
			return nil
		})
		pass(time.Second)
		if got := broker.acked(); !slices.Equal(got, []int64{1, 3}) || client.log.count("ended its goroutine") != 1 {
			t.Errorf("acknowledged is %v; the log says %s", got, client.log)
		}
	})
}
