package certes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// idsOf returns the ids of events by request.
func idsOf(requests [][]*certesv1.Event) (found [][]string) {
	for _, events := range requests {
		var ids []string
		for _, event := range events {
			ids = append(ids, event.GetId())
		}
		found = append(found, ids)
	}
	return found
}

// publishing publishes events at once, each by a call of its own, and returns a function that waits for their outcomes.
func publishing(t *testing.T, client *testClient, all ...Outgoing) func() []error {
	t.Helper()
	message := done(t, "x")
	outcomes := make([]error, len(all))
	var calls sync.WaitGroup
	for i, out := range all {
		if out.Subscriber == "" {
			out.Everyone = true
		}
		out.Message = message
		calls.Go(func() { _, outcomes[i] = client.Publish(context.Background(), out) })
		synctest.Wait() // so that the calls are in this order
	}
	return func() []error {
		calls.Wait()
		return outcomes
	}
}

func TestPublishReturnsWhenTheEventIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		client := newTestClient(t, broker)
		receipt, err := client.Publish(t.Context(), Outgoing{Message: done(t, "a"), Subscriber: "org_1", OrderingKey: "k"})
		if err != nil {
			t.Fatal(err)
		}
		event := broker.requests()[0][0]
		if event.GetId() != receipt.ID || len(receipt.ID) != 36 || receipt.ID[14] != '7' {
			t.Errorf("the id is %q, and was sent as %q; wanted a UUIDv7", receipt.ID, event.GetId())
		}
		if event.GetType() != doneType || event.GetSource() != "apps/app" || event.GetSubscriber() != "org_1" || event.GetOrderingKey() != "k" {
			t.Errorf("sent was %v", event)
		}
	})
}

func TestWhetherAnEventIsADuplicateIsKnownWhereItsIDWasGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		go func() {
			for range 2 {
				answer := accepted(<-gate.arrived)
				answer.GetAccepted().Duplicates = 1
				for _, result := range answer.GetAccepted().GetResults() {
					result.Duplicate = true
				}
				gate.answers <- answer
			}
		}()
		for id, want := range map[string]bool{"mine": true, "": false} {
			receipt, err := client.Publish(t.Context(), Outgoing{Message: done(t, "a"), Everyone: true, ID: id})
			if err != nil || receipt.Duplicate != want || (receipt.Name == "events/mine") != want || id != "" && receipt.ID != id {
				t.Errorf("with the id %q the receipt is %+v, %v", id, receipt, err)
			}
		}
	})
}

// gate holds the answers back until the test asks for them.
type gate struct {
	arrived chan *certesv1.PublishStreamRequest
	answers chan *certesv1.PublishStreamResponse
}

func newGate(broker *fakeBroker) *gate {
	g := &gate{make(chan *certesv1.PublishStreamRequest, 1000), make(chan *certesv1.PublishStreamResponse, 1000)}
	broker.publish = func(call certesv1.EventService_PublishStreamServer) error {
		go func() {
			for {
				request, err := call.Recv()
				if err != nil {
					return
				}
				broker.took(request)
				g.arrived <- request
			}
		}()
		for {
			select {
			case answer := <-g.answers:
				if err := call.Send(answer); err != nil {
					return err
				}
			case <-call.Context().Done():
				return nil
			}
		}
	}
	return g
}

func (g *gate) accept(n int) {
	for range n {
		g.answers <- accepted(<-g.arrived)
	}
}

func TestWhatQueuesUpGoesOutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		var all []Outgoing
		for i := range fewRequests + 70 {
			all = append(all, Outgoing{ID: fmt.Sprint(i)})
		}
		outcomes := publishing(t, client, all...)
		sizes := func() (sizes []int) {
			for _, request := range broker.requests() {
				sizes = append(sizes, len(request))
			}
			return sizes
		}
		if got, want := sizes(), []int{1, 1, 1, 1, 64}; !slices.Equal(got, want) {
			t.Errorf("requests of %v events are under way; wanted %v", got, want)
		}
		gate.accept(2)
		synctest.Wait()
		if got, want := sizes(), []int{1, 1, 1, 1, 64, 6}; !slices.Equal(got, want) {
			t.Errorf("requests of %v events were sent; wanted %v", got, want)
		}
		gate.accept(4)
		for _, err := range outcomes() {
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestOfOneKeyOneRequestIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		outcomes := publishing(t, client, Outgoing{ID: "a1", OrderingKey: "A"}, Outgoing{ID: "a2", OrderingKey: "A"},
			Outgoing{ID: "b1", OrderingKey: "B"}, Outgoing{ID: "a3", OrderingKey: "A"})
		gate.accept(1)
		synctest.Wait()
		if got := fmt.Sprint(idsOf(broker.requests())); got != "[[a1] [b1] [a2 a3]]" {
			t.Errorf("sent is %s", got)
		}
		gate.accept(2)
		outcomes()
	})
}

func TestARefusedRequestIsToldAgainOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		all := []Outgoing{{ID: "1"}, {ID: "2"}, {ID: "3"}, {ID: "4"}, {ID: "good1", OrderingKey: "K"}, {ID: "bad", OrderingKey: "K"}, {ID: "good2", OrderingKey: "K"}}
		outcomes := publishing(t, client, all...)
		gate.accept(4)
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			for told := 0; told < 3; {
				request := <-gate.arrived
				events := request.GetEvents()
				if len(events) == 1 {
					told++
				}
				if slices.ContainsFunc(events, func(e *certesv1.Event) bool { return e.GetId() == "bad" }) {
					gate.answers <- rejected(request, &certesv1.Problem{Code: int32(codes.InvalidArgument), Reason: "UNKNOWN_EVENT_TYPE", Message: "no"})
				} else {
					gate.answers <- accepted(request)
				}
			}
		}()
		for i, err := range outcomes() {
			if want := map[string]string{"bad": "UNKNOWN_EVENT_TYPE"}[all[i].ID]; ReasonOf(err) != want {
				t.Errorf("%s: %v; wanted %q", all[i].ID, err, want)
			}
		}
		<-answered
		if got := fmt.Sprint(idsOf(broker.requests())[4:]); got != "[[good1 bad good2] [good1] [bad] [good2]]" {
			t.Errorf("sent is %s", got)
		}
	})
}

func TestARetryableRefusalIsTriedAgainAfterTheTimeThatItNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		began := time.Now()
		outcomes := publishing(t, client, Outgoing{ID: "a"})
		gate.answers <- rejected(<-gate.arrived, &certesv1.Problem{Code: int32(codes.ResourceExhausted), Reason: "BUFFER_FULL", RetryDelay: durationpb.New(7 * time.Second)})
		gate.accept(1)
		if err := outcomes()[0]; err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != 7*time.Second {
			t.Errorf("it waited %v", waited)
		}
		if got := fmt.Sprint(idsOf(broker.requests())); got != "[[a] [a]]" {
			t.Errorf("sent is %s", got)
		}
	})
}

func TestWhatWasUnderWayWhenTheStreamBrokeIsSentAgainWithTheSameIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		var streams atomic.Int32
		broker.publish = func(call certesv1.EventService_PublishStreamServer) error {
			stream := streams.Add(1)
			for {
				request, err := call.Recv()
				if err != nil {
					return nil //nolint:nilerr // the client has gone
				}
				broker.took(request)
				if stream <= 2 {
					return status.Error(codes.Unavailable, "gone")
				}
				if err := call.Send(accepted(request)); err != nil {
					return err
				}
			}
		}
		client := newTestClient(t, broker)
		receipt, err := client.Publish(t.Context(), Outgoing{Message: done(t, "x"), Everyone: true})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{receipt.ID}
		for _, ids := range idsOf(broker.requests()) {
			if !slices.Equal(ids, want) {
				t.Errorf("sent is %v; wanted %v", ids, want)
			}
		}
		if len(broker.requests()) != 3 {
			t.Errorf("it was sent %d times", len(broker.requests()))
		}
	})
}

func TestARefusalOfTheStreamIsTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{publish: func(certesv1.EventService_PublishStreamServer) error {
			return status.Error(codes.Unauthenticated, "who are you")
		}}
		client := newTestClient(t, broker)
		_, err := client.Publish(t.Context(), Outgoing{Message: done(t, "x"), Everyone: true})
		if ReasonOf(err) != "UNAUTHENTICATED" {
			t.Errorf("it fails with %v", err)
		}
	})
}

func TestACallGivesUpAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		began := time.Now()
		_, err := client.Publish(t.Context(), Outgoing{Message: done(t, "x"), Everyone: true})
		if ReasonOf(err) != ReasonTimedOut || time.Since(began) != time.Minute {
			t.Errorf("it fails with %v after %v", err, time.Since(began))
		}
		gate.accept(1) // or Close would wait for it
	})
}

func TestACallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Publish(ctx, Outgoing{Message: done(t, "x"), Everyone: true})
		if ReasonOf(err) != ReasonTimedOut {
			t.Errorf("it fails with %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = client.Publish(ctx, Outgoing{Message: done(t, "x"), Everyone: true})
		if e := asError(err); e.Code != codes.Canceled || e.Retryable {
			t.Errorf("it fails with %v", err)
		}
		gate.accept(2)
	})
}

func TestWhatNobodyWaitsForIsNotSentAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		first := publishing(t, client, Outgoing{ID: "a", OrderingKey: "K"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.Publish(ctx, Outgoing{Message: done(t, "x"), Everyone: true, ID: "b", OrderingKey: "K"}); ReasonOf(err) != ReasonTimedOut {
			t.Errorf("it fails with %v", err)
		}
		gate.accept(1)
		first()
		synctest.Wait()
		if got := fmt.Sprint(idsOf(broker.requests())); got != "[[a]]" {
			t.Errorf("sent is %s", got)
		}
	})
}

func TestWhatIsGivenUpWhileItWaitsToBeSentAgainHoldsNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		full := &certesv1.Problem{Code: int32(codes.ResourceExhausted), Reason: "BUFFER_FULL", RetryDelay: durationpb.New(time.Hour)}
		first := publishing(t, client, Outgoing{ID: "a", OrderingKey: "K"})
		gate.answers <- rejected(<-gate.arrived, full)
		if err := first()[0]; ReasonOf(err) != ReasonTimedOut {
			t.Errorf("it fails with %v", err)
		}
		second := publishing(t, client, Outgoing{ID: "b", OrderingKey: "K"})
		gate.accept(1)
		if err := second()[0]; err != nil {
			t.Error(err)
		}
	})
}

func TestCallsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		message := done(t, strings.Repeat("x", 1<<20))
		var calls sync.WaitGroup
		const events = 8 + 31 + 5 // under way, waiting, and waiting for room
		for range events {
			calls.Go(func() {
				if _, err := client.Publish(context.Background(), Outgoing{Message: message, Everyone: true}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		p := client.publisher
		p.mu.Lock()
		_, underWay := p.queue.UnderWay()
		_, waiting := p.queue.Waiting()
		outside := len(p.overflow)
		p.mu.Unlock()
		if underWay > 8<<20 || waiting > 32<<20 || outside < 5 {
			t.Errorf("%d bytes are under way, %d wait, and %d events wait for room", underWay, waiting, outside)
		}
		go gate.accept(events)
		calls.Wait()
	})
}

func TestAnAnswerThatIsNobodysIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		outcomes := publishing(t, client, Outgoing{ID: "a"})
		request := <-gate.arrived
		gate.answers <- &certesv1.PublishStreamResponse{RequestId: "of nobody"}
		gate.answers <- accepted(request)
		gate.answers <- accepted(request)
		if err := outcomes()[0]; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseWaitsForEventsThatAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		outcomes := publishing(t, client, Outgoing{ID: "a"})
		time.AfterFunc(20*time.Second, func() { gate.accept(1) })
		if err := client.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := outcomes()[0]; err != nil {
			t.Error(err)
		}
		if _, err := client.Publish(t.Context(), Outgoing{Message: done(t, "x"), Everyone: true}); ReasonOf(err) != ReasonClientClosed {
			t.Errorf("after Close it fails with %v", err)
		}
	})
}

func TestCloseGivesUpAfterThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		newGate(broker)
		client := newTestClient(t, broker)
		outcomes := publishing(t, client, Outgoing{ID: "a"})
		began := time.Now()
		if err := client.Close(t.Context()); err != nil || time.Since(began) != 30*time.Second {
			t.Errorf("Close returns %v after %v", err, time.Since(began))
		}
		if err := outcomes()[0]; ReasonOf(err) != ReasonTimedOut {
			t.Errorf("the call fails with %v", err)
		}
	})
}

func TestEventsForNobodyAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newTestClient(t, &fakeBroker{})
		if err := client.SendOutgoingEvent(t.Context(), "", done(t, "x")); ReasonOf(err) != ReasonAudienceMissing {
			t.Errorf("it fails with %v", err)
		}
		for _, out := range []Outgoing{{Everyone: true}, {Message: done(t, "x"), Everyone: true, Subscriber: "a"}, {Message: done(t, "x"), Subscriber: "\xff"}} {
			if _, err := client.Publish(t.Context(), out); ReasonOf(err) != ReasonFieldInvalid {
				t.Errorf("%+v fails with %v", out, err)
			}
		}
		if err := client.SendOutgoingEvent(t.Context(), "a", &certesv1.Problem{}); ReasonOf(err) != ReasonNotAnEventType {
			t.Errorf("a message that is no event fails with %v", err)
		}
		nameless := offline(t, WithApp(""))
		if err := nameless.SendOutgoingEvent(t.Context(), "a", done(t, "x")); ReasonOf(err) != ReasonAppMissing {
			t.Errorf("without an application it fails with %v", err)
		}
		if _, err := nameless.PublishAll(t.Context(), many(t, 1)); ReasonOf(err) != ReasonAppMissing {
			t.Errorf("without an application it fails with %v", err)
		}
		large := Outgoing{Message: done(t, strings.Repeat("x", 4<<20)), Everyone: true}
		if _, err := client.Publish(t.Context(), large); ReasonOf(err) != ReasonEventTooLarge {
			t.Errorf("a large event fails with %v", err)
		}
	})
}

func TestTheBrokersDomainIsTakenWhereTheMessageNamesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		client := newTestClient(t, broker)
		if _, err := client.Publish(t.Context(), Outgoing{Message: &certesv1.VersionUpdate{}, Everyone: true}); err != nil {
			t.Fatal(err)
		}
		if got := broker.requests()[0][0].GetType(); got != versionType {
			t.Errorf("the type is %s", got)
		}
	})
}

func TestTheBrokersDomainIsAskedForAsLongAsACallIsTried(t *testing.T) {
	for wanted, after := range map[string]time.Duration{"": 20 * time.Second, ReasonGatewayUnreachable: 2 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			client := newTestClient(t, &fakeBroker{})
			began, find := time.Now(), client.connector.find
			client.connector.find = func(ctx context.Context, s *settings) (*gatewayFound, error) {
				if time.Since(began) < after {
					return nil, newError(codes.Unavailable, ReasonGatewayUnreachable, "not yet")
				}
				return find(ctx, s)
			}
			_, err := client.Publish(t.Context(), Outgoing{Message: &certesv1.VersionUpdate{}, Everyone: true})
			if ReasonOf(err) != wanted || time.Since(began) > time.Minute {
				t.Errorf("where the gateway answers after %v, it returns %v after %v", after, err, time.Since(began))
			}
		})
	}
}

func TestTheMinuteOfACallBeginsBeforeTheGatewayIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		began, find := time.Now(), client.connector.find
		client.connector.find = func(ctx context.Context, s *settings) (*gatewayFound, error) {
			time.Sleep(50 * time.Second)
			return find(ctx, s)
		}
		_, err := client.Publish(t.Context(), Outgoing{Message: &certesv1.VersionUpdate{}, Everyone: true})
		if ReasonOf(err) != ReasonTimedOut || time.Since(began) != time.Minute {
			t.Errorf("it fails with %v after %v", err, time.Since(began))
		}
		gate.accept(1) // or Close would wait for it
	})
}
