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

func TestCloseDuringAReconnectDoesNotWait(t *testing.T) {
	for name, end := range map[string]func(call certesv1.EventService_SubscribeServer) error{
		"between two tries": func(certesv1.EventService_SubscribeServer) error { return status.Error(codes.Unavailable, "gone") },
		"where it is refused": func(certesv1.EventService_SubscribeServer) error {
			return status.Error(codes.PermissionDenied, "no")
		},
		"while one is opened": func(call certesv1.EventService_SubscribeServer) error {
			<-call.Context().Done()
			return nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			broker, at := openings(func(_ int, call certesv1.EventService_SubscribeServer) error { return end(call) })
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			pass(20 * time.Second)
			before, began := len(at()), time.Now()
			if err := client.Close(t.Context()); err != nil || time.Since(began) != 0 {
				t.Errorf("%s: Close returns %v after %v", name, err, time.Since(began))
			}
			pass(time.Hour)
			if len(at()) != before {
				t.Errorf("%s: after Close streams were opened", name)
			}
		})
	}
}

func TestCloseDoesNotWaitForAGatewayThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newTestClient(t, &fakeBroker{})
		consuming(t, client, nothing)
		client.connector.find = func(ctx context.Context, _ *settings) (*gatewayFound, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		client.connector.doubt()
		began := time.Now()
		if err := client.Close(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("Close returns %v after %v", err, time.Since(began))
		}
	})
}

func TestWhileHandlersRunThatCloseWaitsForTheyCanCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		var streams record[string]
		broker.subscribe = func(request *certesv1.SubscribeRequest, call certesv1.EventService_SubscribeServer) error {
			streams.add(request.GetSubscription())
			return serve(opened("s"), batchOf(1, deliveryOf(t, "a"), deliveryOf(t, "b")))(request, call)
		}
		client := newTestClient(t, broker, WithConcurrency(1))
		wanted := Subscriptions{Events: []Selector{Event(brokerDomain+"/**", nil)}, Name: "more"}
		consuming(t, client, func(context.Context, *RawEvent) error {
			time.Sleep(10 * time.Second)
			ctx := context.Background() // as a handler has it that gets no context
			if err := client.SendOutgoingEvent(ctx, "org_1", done(t, "x")); err != nil {
				t.Errorf("publishing fails with %v", err)
			}
			if _, err := client.PublishAll(ctx, many(t, 2)); err != nil {
				t.Errorf("publishing many fails with %v", err)
			}
			if err := client.EnsureSubscriptions(ctx, wanted); err != nil {
				t.Errorf("ensuring fails with %v", err)
			}
			time.Sleep(time.Second)
			return nil
		})
		pass(time.Second)
		if err := client.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if !slices.Equal(broker.acked(), []int64{1}) || len(broker.requests()) != 1 || len(broker.asked()) != 1 || len(broker.updates) != 2 {
			t.Errorf("acknowledged is %v, published %v and %v, ensured %v", broker.acked(), broker.requests(), broker.asked(), broker.updates)
		}
		if streams.len() != 1 {
			t.Errorf("streams were opened of %v; a client that closes takes no more deliveries", streams.get())
		}
		if err := client.EnsureSubscriptions(t.Context(), wanted); ReasonOf(err) != ReasonClientClosed {
			t.Errorf("after that ensuring fails with %v", err)
		}
		if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); ReasonOf(err) != ReasonClientClosed {
			t.Errorf("after that publishing fails with %v", err)
		}
		if err := client.Run(t.Context()); ReasonOf(err) != ReasonClientClosed {
			t.Errorf("after that Run returns %v", err)
		}
	})
}

func TestAStreamThatIsLostWhileAClientClosesIsNotOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
			if n == 1 {
				_ = call.Send(opened("s"))
				_ = call.Send(batchOf(1, deliveryOf(t, "a")))
				time.Sleep(time.Second)
			}
			return status.Error(codes.Unavailable, "gone")
		})
		client := newTestClient(t, broker)
		consuming(t, client, func(context.Context, *RawEvent) error {
			time.Sleep(40 * time.Second)
			return nil
		})
		pass(20 * time.Second)
		before := len(at())
		if err := client.Close(t.Context()); err != nil || len(at()) != before {
			t.Errorf("Close returns %v; streams were opened at %v", err, at()[before:])
		}
	})
}

func TestACallThatWaitsForTheGatewayEndsWhenTheClientIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := newTestClient(t, &fakeBroker{})
		client.connector.find = func(context.Context, *settings) (*gatewayFound, error) {
			return nil, newError(codes.Unavailable, ReasonGatewayUnreachable, "not yet")
		}
		began := time.Now()
		outcomes := make(chan error, 2)
		go func() {
			// The broker's domain has to be asked for.
			_, err := client.Publish(context.Background(), Outgoing{Message: &certesv1.VersionUpdate{}, Everyone: true})
			outcomes <- err
		}()
		go func() {
			outcomes <- client.EnsureSubscriptions(context.Background(), Subscriptions{Events: []Selector{Event("d/a/1/x", nil)}})
		}()
		pass(10 * time.Second)
		if err := client.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-outcomes; ReasonOf(err) != ReasonClientClosed || time.Since(began) != 10*time.Second {
				t.Errorf("it fails with %v after %v", err, time.Since(began))
			}
		}
	})
}

func TestCloseIsIdempotentAndWaitsForTheFirstOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveryOf(t, "a")))}
		client := newTestClient(t, broker)
		consuming(t, client, func(context.Context, *RawEvent) error {
			time.Sleep(10 * time.Second)
			return nil
		})
		pass(time.Second)
		for range 3 {
			go func() {
				if err := client.Close(context.Background()); err != nil || !slices.Equal(broker.acked(), []int64{1}) {
					t.Errorf("Close returns %v, and acknowledged is %v", err, broker.acked())
				}
			}()
		}
		pass(time.Minute)
	})
}

func TestTwoClientsOfOneProcessConcernEachOtherInNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var brokers [2]*fakeBroker
		var clients [2]*testClient
		var handled [2]record[string]
		for i, id := range []string{"a", "b"} {
			brokers[i] = &fakeBroker{subscribe: serve(opened(id), batchOf(1, deliveryOf(t, id)))}
			clients[i] = newTestClient(t, brokers[i])
			consuming(t, clients[i], func(ctx context.Context, raw *RawEvent) error {
				handled[i].add(raw.ID)
				_, err := clients[i].Publish(ctx, Outgoing{Message: done(t, raw.ID), Everyone: true, ID: raw.ID})
				return err
			})
		}
		pass(time.Second)
		for i, id := range []string{"a", "b"} {
			if !slices.Equal(handled[i].get(), []string{id}) || !slices.Equal(brokers[i].acked(), []int64{1}) || brokers[i].requests()[0][0].GetId() != id {
				t.Errorf("the client of %s has handled %v, and published %v", id, handled[i].get(), idsOf(brokers[i].requests()))
			}
		}
		if err := clients[0].Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := clients[1].SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); err != nil {
			t.Errorf("when the other one is closed, it fails with %v", err)
		}
	})
}

func TestTheTraceContextOfAnEventIsThatOfWhatItsHandlerPublishes(t *testing.T) {
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	synctest.Test(t, func(t *testing.T) {
		traced := deliveryOf(t, "a", func(event *certesv1.Event) { event.Traceparent, event.Tracestate = traceparent, "a=1" })
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, traced))}
		client := newTestClient(t, broker)
		consuming(t, client, func(ctx context.Context, _ *RawEvent) error {
			if _, err := client.PublishAll(ctx, []Outgoing{{Message: done(t, "x"), Everyone: true}}); err != nil {
				return err
			}
			return client.SendOutgoingEvent(ctx, "org_1", done(t, "x"))
		})
		pass(time.Second)
		for _, event := range []*certesv1.Event{broker.requests()[0][0], broker.asked()[0].GetEvents()[0]} {
			if event.GetTraceparent() != traceparent || event.GetTracestate() != "a=1" {
				t.Errorf("published was %v", event)
			}
		}
	})
}
