package certes

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// openings notes when streams are opened, and has them end as end says.
func openings(end func(n int, call certesv1.EventService_SubscribeServer) error) (*fakeBroker, func() []time.Duration) {
	var at record[time.Duration]
	began := time.Now()
	broker := &fakeBroker{subscribe: func(_ *certesv1.SubscribeRequest, call certesv1.EventService_SubscribeServer) error {
		return end(at.add(time.Since(began)), call)
	}}
	return broker, at.get
}

func TestAStreamThatEndsIsOpenedAgainAtOnceAndThenWithBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(int, certesv1.EventService_SubscribeServer) error {
			return status.Error(codes.Unavailable, "gone")
		})
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(2 * time.Minute)
		waits := []time.Duration{}
		for i, when := range at()[1:] {
			waits = append(waits, when-at()[i])
		}
		if waits[0] != 0 {
			t.Errorf("it is opened again after %v", waits[0])
		}
		for n, wait := range waits[1:] {
			whole := min(10*time.Second, 100*time.Millisecond<<min(n, 10))
			if wait < whole/2 || wait > whole {
				t.Errorf("before try %d it waits %v; wanted %v to %v", n+1, wait, whole/2, whole)
			}
		}
		if client.log.count("level=WARN") != 1 {
			t.Errorf("the log says %s", client.log)
		}
	})
}

func TestABatchResetsTheBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
			if n == 6 {
				_ = call.Send(opened("s"))
				_ = call.Send(batchOf(1, deliveryOf(t, "a")))
			}
			return status.Error(codes.Unavailable, "gone")
		})
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(time.Minute)
		if wait := at()[6] - at()[5]; wait != 0 {
			t.Errorf("after a batch it is opened again after %v", wait)
		}
	})
}

func TestAStreamThatSaysNothingForFortyFiveSecondsIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
			if n == 2 {
				return beat(call)
			}
			_ = call.Send(opened("s"))
			<-call.Context().Done()
			return nil
		})
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(10 * time.Minute)
		if !slices.Equal(at(), []time.Duration{0, 45 * time.Second}) {
			t.Errorf("streams were opened at %v; wanted at 0 s and at 45 s", at())
		}
	})
}

func TestADeletedSubscriptionEndsItsStreamForGood(t *testing.T) {
	for name, end := range map[string]func(*testing.T, certesv1.EventService_SubscribeServer) error{
		"closing": func(_ *testing.T, call certesv1.EventService_SubscribeServer) error {
			return call.Send(closing(certesv1.SubscribeResponse_REASON_DELETED))
		},
		"not found": func(t *testing.T, _ certesv1.EventService_SubscribeServer) error {
			return refusal(t, codes.NotFound, "SUBSCRIPTION_NOT_FOUND", nil)
		},
		"deleted": func(t *testing.T, _ certesv1.EventService_SubscribeServer) error {
			return refusal(t, codes.FailedPrecondition, "SUBSCRIPTION_DELETED", nil)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			broker, at := openings(func(_ int, call certesv1.EventService_SubscribeServer) error { return end(t, call) })
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			pass(5 * time.Minute)
			if len(at()) != 1 || client.log.count("level=WARN") != 1 {
				t.Errorf("%s: the stream was opened at %v; the log says %s", name, at(), client.log)
			}
			client.ensure(t)
			pass(time.Second)
			if len(at()) != 2 {
				t.Errorf("%s: when it was ensured again, the stream was opened at %v", name, at())
			}
		})
	}
}

func TestOtherEndsOfAStreamAreNotForGood(t *testing.T) {
	for _, reason := range []certesv1.SubscribeResponse_Reason{
		certesv1.SubscribeResponse_REASON_DRAINING, certesv1.SubscribeResponse_REASON_PAUSED,
		certesv1.SubscribeResponse_REASON_SOUGHT, certesv1.SubscribeResponse_REASON_INTERNAL, 99,
	} {
		synctest.Test(t, func(t *testing.T) {
			broker, at := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
				if n > 1 {
					return beat(call)
				}
				_ = call.Send(opened("s"))
				return call.Send(closing(reason))
			})
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			pass(time.Minute)
			if len(at()) != 2 {
				t.Errorf("%v: streams were opened at %v", reason, at())
			}
		})
	}
}

func TestARefusalThatIsNotRetryableIsReportedAndTriedAgainEveryThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
			if n == 3 {
				return beat(call)
			}
			return refusal(t, codes.PermissionDenied, "PERMISSION_DENIED", nil)
		})
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(10 * time.Minute)
		if !slices.Equal(at(), []time.Duration{0, 30 * time.Second, time.Minute}) || client.log.count("level=WARN") != 2 {
			t.Errorf("streams were opened at %v; the log says %s", at(), client.log)
		}
	})
}

func TestAMalformedFrameBreaksTheStreamAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
			if n > 1 {
				return serve(opened("s"), batchOf(1, deliveryOf(t, "a")))(nil, call)
			}
			_ = call.Send(opened("s"))
			return call.Send(batchOf(0, deliveryOf(t, "a"))) // ordinals are counted from 1
		})
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(time.Minute)
		if len(at()) != 2 || !slices.Equal(broker.acked(), []int64{1}) {
			t.Errorf("streams were opened at %v, and acknowledged is %v", at(), broker.acked())
		}
	})
}

func TestTheOutcomeOfAHandlerWhoseStreamHasEndedConcernsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, _ := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
			if n > 1 {
				return serve(opened("second"))(nil, call)
			}
			_ = call.Send(opened("first"))
			_ = call.Send(batchOf(1, deliveryOf(t, "a"), deliveryOf(t, "b")))
			time.Sleep(time.Second)
			return status.Error(codes.Unavailable, "gone")
		})
		client := newTestClient(t, broker, WithConcurrency(1))
		var handled record[string]
		consuming(t, client, func(_ context.Context, raw *RawEvent) error {
			time.Sleep(5 * time.Second)
			handled.add(raw.ID)
			return nil
		})
		pass(time.Minute)
		if handled.len() != 1 || len(broker.acked()) != 0 {
			t.Errorf("%d events were handled, and acknowledged is %v; the second was never begun", handled.len(), broker.acked())
		}
	})
}

func TestCloseLetsHandlersFinishTellsTheirOutcomesAndBeginsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 10)...))}
		client := newTestClient(t, broker, WithConcurrency(2))
		var handled record[string]
		consuming(t, client, func(ctx context.Context, raw *RawEvent) error {
			time.Sleep(20 * time.Second)
			handled.add(raw.ID)
			_, err := client.Publish(ctx, Outgoing{Message: done(t, raw.ID), Everyone: true})
			return err
		})
		pass(time.Second)
		began := time.Now()
		if err := client.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 19*time.Second {
			t.Errorf("Close took %v", took)
		}
		if handled.len() != 2 || !slices.Equal(broker.acked(), []int64{1, 2}) {
			t.Errorf("%d events were handled, and acknowledged is %v", handled.len(), broker.acked())
		}
	})
}

func TestCloseDoesNotWaitForAHandlerThatNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveries(t, 1, 2)...))}
		never := make(chan struct{})
		client := newTestClient(t, broker)
		client.neverReturns = true
		consuming(t, client, func(ctx context.Context, raw *RawEvent) error {
			if raw.ID == "1" {
				<-never
			}
			return nil
		})
		pass(time.Second)
		began := time.Now()
		err := client.Close(t.Context())
		if ReasonOf(err) != ReasonTimedOut || time.Since(began) != 30*time.Second {
			t.Errorf("Close returns %v after %v", err, time.Since(began))
		}
		if !slices.Equal(broker.acked(), []int64{2}) {
			t.Errorf("acknowledged is %v", broker.acked())
		}
		close(never)
	})
}
