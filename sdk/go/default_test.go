package certes

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// useDefault makes a client the default one until the end of the test; nil is as before Init.
func useDefault(t *testing.T, client *Client) {
	t.Helper()
	set := func(client *Client) {
		standard.mu.Lock()
		defer standard.mu.Unlock()
		standard.client = client
	}
	set(client)
	t.Cleanup(func() { set(nil) })
}

// logging has the default log write into what is returned.
func logging(t *testing.T) *testLog {
	t.Helper()
	log, before := &testLog{}, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return log
}

func TestBeforeInitEverythingIsRefusedAndTheShortFormsLogIt(t *testing.T) {
	log := logging(t)
	useDefault(t, nil)
	for name, err := range map[string]error{
		"EnsureSubscriptions":        EnsureSubscriptions(Event("d/a/1/x", nil)),
		"EnsureSubscriptionsContext": EnsureSubscriptionsContext(t.Context(), Subscriptions{}),
		"SendOutgoingEvent":          SendOutgoingEvent("org_1", done(t, "x")),
		"SendOutgoingEventContext":   SendOutgoingEventContext(t.Context(), "org_1", done(t, "x")),
		"Run":                        Run(t.Context()),
	} {
		if ReasonOf(err) != ReasonNotInitialized {
			t.Errorf("%s returns %v", name, err)
		}
	}
	if _, err := Publish(t.Context(), Outgoing{}); ReasonOf(err) != ReasonNotInitialized {
		t.Errorf("Publish returns %v", err)
	}
	if _, err := PublishAll(t.Context(), nil); ReasonOf(err) != ReasonNotInitialized {
		t.Errorf("PublishAll returns %v", err)
	}
	if err := Close(t.Context()); err != nil {
		t.Errorf("Close returns %v", err)
	}
	if log.count("level=ERROR") != 2 || log.count("EnsureSubscriptions failed") != 1 || log.count("SendOutgoingEvent failed") != 1 {
		t.Errorf("the log says %s", log)
	}
}

func TestTheHandlerThatIsMountedBeforeInitServesTheClientThatComesAfter(t *testing.T) {
	useDefault(t, nil)
	handler := HttpHandler()
	if status, body := post(handler, signed(t, firstSecret, doneEvent)); status != http.StatusServiceUnavailable || !strings.Contains(body, ReasonNotInitialized) {
		t.Errorf("before Init it is answered %d %s", status, body)
	}
	client := webhookClient(t)
	client.On(doneType, nothing)
	useDefault(t, client)
	if status, body := post(handler, signed(t, firstSecret, doneEvent)); status != http.StatusNoContent {
		t.Errorf("it is answered %d %s", status, body)
	}
}

func TestInitTwiceIsRefused(t *testing.T) {
	log := logging(t)
	useDefault(t, nil)
	if err := Init("events://"); ReasonOf(err) != ReasonMalformedURI {
		t.Errorf("a malformed URI: %v", err)
	}
	if err := Init("events://events.example.com"); err != nil {
		t.Fatal(err)
	}
	if err := Init("events://events.example.com"); ReasonOf(err) != ReasonAlreadyInitialized {
		t.Errorf("the second time it returns %v", err)
	}
	if log.count("level=ERROR") != 2 {
		t.Errorf("the log says %s", log)
	}
	if err := Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestInitAfterCloseMakesAnotherClientWithTheSameHandlers(t *testing.T) {
	useDefault(t, nil)
	if err := Init("events://127.0.0.1:1", WithWebhookKeys(firstSecret), WithLogger(discard)); err != nil {
		t.Fatal(err)
	}
	handled := 0
	standard.handlers = handlerRegistry{}
	t.Cleanup(func() { standard.handlers = handlerRegistry{} })
	On(doneType, func(*RawEvent) error { handled++; return nil })
	handler := HttpHandler()
	if err := Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := post(handler, signed(t, firstSecret, doneEvent)); status != http.StatusServiceUnavailable || !strings.Contains(body, ReasonClientClosed) {
		t.Errorf("after Close it is answered %d %s", status, body)
	}
	if err := Init("events://127.0.0.1:1", WithWebhookKeys(firstSecret), WithLogger(discard)); err != nil {
		t.Fatal(err)
	}
	if status, body := post(handler, signed(t, firstSecret, doneEvent)); status != http.StatusNoContent || handled != 1 {
		t.Errorf("after Init it is answered %d %s", status, body)
	}
	if err := Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAMalformedPatternOfOnPanics(t *testing.T) {
	for _, register := range []func(){
		func() { On("d/**/x", func(*RawEvent) error { return nil }) },
		func() { On("d/a/1/x", nil) },
		func() { OnContext("d/a/1/x", nil) },
		func() { offline(t).On("d/x/*", nothing) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("it does not panic")
				}
			}()
			register()
		}()
	}
}

func TestTheShortFormGoesOnEnsuringInTheBackground(t *testing.T) {
	log := logging(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		broker := &fakeBroker{}
		broker.update = func(request *certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
			if time.Since(began) < 2*time.Minute {
				return nil, refusal(t, codes.Unavailable, "STORAGE_UNAVAILABLE", nil)
			}
			return request.GetSubscription(), nil
		}
		client := newTestClient(t, broker, WithLogger(slog.Default()))
		useDefault(t, client.Client)
		if err := EnsureSubscriptions(Event("d/a/1/x", nil)); ReasonOf(err) != "STORAGE_UNAVAILABLE" || time.Since(began) > 30*time.Second {
			t.Errorf("it returns %v after %v", err, time.Since(began))
		}
		pass(3 * time.Minute)
		broker.mu.Lock()
		defer broker.mu.Unlock()
		if len(broker.updates) != 1 || log.count("level=") != 1 {
			t.Errorf("it was ensured %d times; the log says %s", len(broker.updates), log)
		}
	})
}

func TestTheBackgroundWaitsAsLongAsTheBrokerAsksFor(t *testing.T) {
	logging(t)
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		broker := &fakeBroker{update: func(*certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
			if tries++; tries > 100 {
				time.Sleep(time.Minute) // enough is known
			}
			full, err := status.New(codes.ResourceExhausted, "full").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)})
			return nil, errors.Join(full.Err(), err)
		}}
		useDefault(t, newTestClient(t, broker).Client)
		if err := EnsureSubscriptions(Event("d/a/1/x", nil)); err == nil {
			t.Error("it succeeds")
		}
		pass(5*time.Minute + time.Second)
		if tries != 6 {
			t.Errorf("in five minutes it was tried %d times", tries)
		}
	})
}

func TestWhatIsEnsuredAnewIsNotPutBackByTheBackground(t *testing.T) {
	logging(t)
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			broker := &fakeBroker{}
			broker.update = func(request *certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
				if old := request.GetSubscription().GetSelectors()[0].GetPattern() == "d/a/1/old"; old && time.Since(began) < time.Minute {
					if hangs {
						time.Sleep(20 * time.Second)
					}
					return nil, refusal(t, codes.Unavailable, "STORAGE_UNAVAILABLE", nil)
				}
				return request.GetSubscription(), nil
			}
			client := newTestClient(t, broker)
			useDefault(t, client.Client)
			if err := EnsureSubscriptions(Event("d/a/1/old", nil)); err == nil {
				t.Error("it succeeds")
			}
			pass(5 * time.Second)
			other := Subscriptions{Name: "other", Events: []Selector{Event("d/a/1/other", nil)}}
			for _, wanted := range []Subscriptions{{Events: []Selector{Event("d/a/1/new", nil)}}, other} {
				if err := client.EnsureSubscriptions(t.Context(), wanted); err != nil {
					t.Error(err)
				}
			}
			pass(5 * time.Minute)
			broker.mu.Lock()
			defer broker.mu.Unlock()
			for i, want := range []string{"d/a/1/new", "d/a/1/other"} {
				if len(broker.updates) != 2 || broker.updates[i].GetSubscription().GetSelectors()[0].GetPattern() != want {
					t.Errorf("ensured was %v", broker.updates)
				}
			}
		})
	}
}

func TestACallThatIsOlderThanAnotherDoesNotGoOnInTheBackground(t *testing.T) {
	logging(t)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		broker := &fakeBroker{}
		broker.update = func(request *certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
			if old := request.GetSubscription().GetSelectors()[0].GetPattern() == "d/a/1/old"; old && time.Since(began) < time.Minute {
				return nil, refusal(t, codes.Unavailable, "STORAGE_UNAVAILABLE", nil)
			}
			return request.GetSubscription(), nil
		}
		client := newTestClient(t, broker)
		useDefault(t, client.Client)
		time.AfterFunc(10*time.Second, func() {
			if err := EnsureSubscriptionsContext(context.Background(), Subscriptions{Events: []Selector{Event("d/a/1/new", nil)}}); err != nil {
				t.Error(err)
			}
		})
		if err := EnsureSubscriptions(Event("d/a/1/old", nil)); err == nil {
			t.Error("it succeeds")
		}
		pass(5 * time.Minute)
		broker.mu.Lock()
		defer broker.mu.Unlock()
		if len(broker.updates) != 1 {
			t.Errorf("ensured was %v", broker.updates)
		}
	})
}

func TestTheDefaultClientPublishesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		client := newTestClient(t, broker)
		useDefault(t, client.Client)
		if err := SendOutgoingEvent("org_1", done(t, "x")); err != nil {
			t.Error(err)
		}
		if err := SendOutgoingEventContext(context.Background(), "org_1", done(t, "x")); err != nil {
			t.Error(err)
		}
		if receipts, err := PublishAll(t.Context(), []Outgoing{{Message: done(t, "x"), Everyone: true}}); err != nil || len(receipts) != 1 {
			t.Errorf("%v %v", receipts, err)
		}
		if err := Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := SendOutgoingEvent("org_1", done(t, "x")); ReasonOf(err) != ReasonClientClosed {
			t.Errorf("after Close it returns %v", err)
		}
	})
}
