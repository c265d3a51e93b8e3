package certes

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// silentGateway has the gateway of a client say nothing any more, so that each question takes as long as one may.
func silentGateway(client *testClient) {
	client.connector.find = func(ctx context.Context, _ *settings) (*gatewayFound, error) {
		ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
		defer cancel()
		<-ctx.Done()
		return nil, newError(codes.Unavailable, ReasonGatewayUnreachable, "it is silent")
	}
}

func TestCallsDoNotStandInLineBeforeASilentGatewayWhoseDomainIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newTestClient(t, &fakeBroker{})
		update := Outgoing{Message: &certesv1.VersionUpdate{}, Everyone: true}
		if _, err := client.Publish(t.Context(), update); err != nil {
			t.Fatal(err)
		}
		silentGateway(client)
		client.connector.doubt()
		began := time.Now()
		for range 10 {
			if _, err := client.Publish(t.Context(), update); err != nil || time.Since(began) != 0 {
				t.Fatalf("on the stream that is open it returns %v after %v", err, time.Since(began))
			}
		}
	})
}

func TestCallsThatAskForTheDomainFirstGiveUpAfterAMinuteHoweverManyDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newTestClient(t, &fakeBroker{})
		silentGateway(client)
		began := time.Now()
		var calls sync.WaitGroup
		for range 100 {
			calls.Go(func() {
				_, err := client.Publish(context.Background(), Outgoing{Message: &certesv1.VersionUpdate{}, Everyone: true})
				if took := time.Since(began); !asError(err).Retryable || took > time.Minute {
					t.Errorf("it returns %v after %v", err, took)
				}
			})
		}
		calls.Wait()
	})
}

// broken are the codes of a connection or a broker that broke.
var broken = []codes.Code{codes.Internal, codes.Unknown, codes.Canceled, codes.DataLoss}

func TestPublishAllIsTriedAgainWhereTheConnectionBroke(t *testing.T) {
	for _, code := range broken {
		synctest.Test(t, func(t *testing.T) {
			broker := &fakeBroker{}
			broker.whole = func(request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
				if len(broker.asked()) < 3 {
					return nil, status.Error(code, "broken")
				}
				return stored(request), nil
			}
			receipts, err := newTestClient(t, broker).PublishAll(t.Context(), many(t, 2))
			if err != nil || len(receipts) != 2 {
				t.Errorf("%v: it returns %v, %v", code, receipts, err)
			}
		})
	}
}

func TestAnAnswerToPublishAllThatDoesNotFitIsNotAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{whole: func(*certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
			return &certesv1.PublishResponse{}, nil
		}}
		_, err := newTestClient(t, broker).PublishAll(t.Context(), many(t, 2))
		if ReasonOf(err) != "INTERNAL" || len(broker.asked()) != 1 {
			t.Errorf("it returns %v after %d requests", err, len(broker.asked()))
		}
	})
}

func TestEnsuringIsTriedAgainWhereTheConnectionBroke(t *testing.T) {
	for _, code := range broken {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			broker := &fakeBroker{update: func(request *certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
				if tries++; tries < 3 {
					return nil, status.Error(code, "broken")
				}
				return request.GetSubscription(), nil
			}}
			err := newTestClient(t, broker).EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event("d/a/1/x", nil)}})
			if err != nil || tries != 3 {
				t.Errorf("%v: it returns %v after %d tries", code, err, tries)
			}
		})
	}
}

func TestWhatIsSettledIsToldAgainWhereTheConnectionBrokeAndTheLogSaysSoOnce(t *testing.T) {
	for _, code := range broken {
		synctest.Test(t, func(t *testing.T) {
			broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveryOf(t, "a")))}
			tries := 0
			broker.acknowledge = func(*certesv1.AcknowledgeRequest) error {
				if tries++; tries < 5 {
					return status.Error(code, "broken")
				}
				return nil
			}
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			pass(20 * time.Second)
			if !slices.Equal(broker.acked(), []int64{1}) || client.log.count("level=WARN") != 1 {
				t.Errorf("%v: acknowledged is %v after %d tries; the log says %s", code, broker.acked(), tries, client.log)
			}
		})
	}
}

func TestAStreamThatBreaksForEverIsLoggedOnce(t *testing.T) {
	for _, code := range broken {
		synctest.Test(t, func(t *testing.T) {
			broker, at := openings(func(int, certesv1.EventService_SubscribeServer) error { return status.Error(code, "broken") })
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			pass(2 * time.Minute)
			if len(at()) < 5 || client.log.count("level=WARN") != 1 {
				t.Errorf("%v: streams were opened at %v; the log says %s", code, at(), client.log)
			}
		})
	}
}

func TestAStreamThatTheBrokerClosesWithAWordIsNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(_ int, call certesv1.EventService_SubscribeServer) error {
			return call.Send(closing(certesv1.SubscribeResponse_REASON_PAUSED))
		})
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(2 * time.Minute)
		if len(at()) < 5 || client.log.count("level=WARN") != 0 {
			t.Errorf("streams were opened at %v; the log says %s", at(), client.log)
		}
	})
}

func TestCallsThatGaveUpDoNotPileUpWhileAnOpenStreamStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		gate := newGate(broker)
		client := newTestClient(t, broker)
		first := publishing(t, client, Outgoing{ID: "a", OrderingKey: "K"}) // which holds back the others
		message := done(t, strings.Repeat("x", 1<<20))
		var calls sync.WaitGroup
		for range 50 { // more than there is room for
			calls.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if _, err := client.Publish(ctx, Outgoing{Message: message, Everyone: true, OrderingKey: "K"}); ReasonOf(err) != ReasonTimedOut {
					t.Errorf("it fails with %v", err)
				}
			})
		}
		calls.Wait()
		p := client.publisher
		p.mu.Lock()
		waiting, _ := p.queue.Waiting()
		outside := len(p.overflow)
		p.mu.Unlock()
		if waiting+outside > 1 {
			t.Errorf("%d events wait, and %d for room, and nobody waits for any", waiting, outside)
		}
		gate.accept(1)
		if err := first()[0]; err != nil {
			t.Error(err)
		}
	})
}
