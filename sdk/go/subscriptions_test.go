package certes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

type repoOptions struct{ Repo string }

func (o *repoOptions) EventOptions() map[string]string { return map[string]string{"repo": o.Repo} }

func TestEnsuringSaysWhatIsWantedAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		client := newTestClient(t, broker, WithGeneration(7), WithSubscriber("org_1"))
		var none *repoOptions
		err := client.EnsureSubscriptions(t.Context(), Subscriptions{
			Events: []Selector{
				Event("Community.certes.dev/github/1/*", &repoOptions{"meetly/app"}),
				Event("community.certes.dev/github/1/push", nil),
				Event("community.certes.dev/github/1/push", none),
				Event("community.certes.dev/github/1/push", OptionsMap{"repo": ""}),
				Event("community.certes.dev/github/1/push", OptionsMap{"repo": "x"}),
			},
			Name: "bulk", Filter: "true",
		})
		if err != nil {
			t.Fatal(err)
		}
		request := broker.updates[0]
		sub := request.GetSubscription()
		var selectors []string
		for _, s := range sub.GetSelectors() {
			selectors = append(selectors, fmt.Sprint(s.GetPattern(), s.GetOptions()))
		}
		want := []string{
			"community.certes.dev/github/1/*map[repo:meetly/app]", "community.certes.dev/github/1/pushmap[]", "community.certes.dev/github/1/pushmap[repo:x]",
		}
		if !slices.Equal(selectors, want) {
			t.Errorf("the selectors are %q; wanted %q", selectors, want)
		}
		if sub.GetName() != "subscribers/org_1/subscriptions/app:bulk" || sub.GetFilter() != "true" || sub.GetGeneration() != 7 || sub.GetStream() == nil || !request.GetAllowMissing() {
			t.Errorf("the request is %v", request)
		}
		if mask := request.GetUpdateMask().GetPaths(); !slices.Equal(mask, []string{"selectors", "filter", "generation", "stream"}) {
			t.Errorf("the mask is %v", mask)
		}
	})
}

func TestWithACallbackURLNoStreamIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, at := openings(func(_ int, call certesv1.EventService_SubscribeServer) error { return beat(call) })
		client := newTestClient(t, broker, WithCallbackURL("https://app.example.com/hook"))
		consuming(t, client, nothing)
		pass(time.Minute)
		request := broker.updates[0]
		if request.GetSubscription().GetWebhook().GetUrl() != "https://app.example.com/hook" || len(at()) != 0 {
			t.Errorf("the request is %v, and streams were opened at %v", request, at())
		}
		if mask := request.GetUpdateMask().GetPaths(); !slices.Equal(mask, []string{"selectors", "filter", "webhook.url"}) {
			t.Errorf("the mask is %v", mask)
		}
		if err := client.Run(t.Context()); ReasonOf(err) != ReasonFieldInvalid {
			t.Errorf("Run returns %v", err)
		}
	})
}

func TestWhatIsWrongWithASelectorIsSaidByEnsureSubscriptions(t *testing.T) {
	for pattern, want := range map[string]string{"d/**/x/y": ReasonMalformedPattern, "d/x/*": ReasonUnmatchablePattern} {
		err := offline(t).EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event(pattern, nil)}})
		if ReasonOf(err) != want || asError(err).Metadata["position"] == "" {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	for _, events := range [][]Selector{nil, {{}}} {
		if err := offline(t).EnsureSubscriptions(t.Context(), Subscriptions{Events: events}); ReasonOf(err) != ReasonFieldInvalid {
			t.Errorf("%v: %v", events, err)
		}
	}
	if err := offline(t, WithApp("")).EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event("d/a/1/x", nil)}}); ReasonOf(err) != ReasonAppMissing {
		t.Errorf("without an application: %v", err)
	}
}

func TestEnsuringIsTriedAgainForThirtySecondsWhereThatMayHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		broker := &fakeBroker{update: func(*certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
			tries++
			return nil, refusal(t, codes.Unavailable, "STORAGE_UNAVAILABLE", nil)
		}}
		client := newTestClient(t, broker)
		began := time.Now()
		err := client.EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event("d/a/1/x", nil)}})
		if took := time.Since(began); ReasonOf(err) != "STORAGE_UNAVAILABLE" || took < 15*time.Second || took > 30*time.Second || tries < 8 {
			t.Errorf("it fails with %v after %v and %d tries", err, took, tries)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{update: func(*certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
			return nil, refusal(t, codes.FailedPrecondition, "STALE_GENERATION", nil)
		}}
		began := time.Now()
		err := newTestClient(t, broker).EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event("d/a/1/x", nil)}})
		if ReasonOf(err) != "STALE_GENERATION" || time.Since(began) != 0 {
			t.Errorf("it fails with %v after %v", err, time.Since(began))
		}
	})
}

func TestEnsuringDoesNotWaitForABrokerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := make(chan struct{})
		broker := &fakeBroker{update: func(request *certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) {
			<-hanging
			return request.GetSubscription(), nil
		}}
		client := newTestClient(t, broker)
		began := time.Now()
		err := client.EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event("d/a/1/x", nil)}})
		if time.Since(began) != 30*time.Second || !asError(err).Retryable {
			t.Errorf("it returns %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = client.EnsureSubscriptions(ctx, Subscriptions{Events: []Selector{Event("d/a/1/x", nil)}})
		if ReasonOf(err) != ReasonTimedOut || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that ends it returns %v", err)
		}
		close(hanging)
	})
}

func TestRunReturnsWhenItsContextEndsAndHasDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveryOf(t, "a")))}
		client := newTestClient(t, broker)
		consuming(t, client, func(context.Context, *RawEvent) error {
			time.Sleep(10 * time.Second)
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := client.Run(ctx); err != nil {
			t.Error(err)
		}
		if !slices.Equal(broker.acked(), []int64{1}) {
			t.Errorf("acknowledged is %v", broker.acked())
		}
		if err := client.Run(t.Context()); ReasonOf(err) != ReasonClientClosed {
			t.Errorf("after that Run returns %v", err)
		}
	})
}

func TestRunFailsOnlyWhereAStreamHasEndedForGood(t *testing.T) {
	for name, late := range map[string]bool{"while it runs": false, "before it ran": true} {
		synctest.Test(t, func(t *testing.T) {
			broker, at := openings(func(n int, _ certesv1.EventService_SubscribeServer) error {
				time.Sleep(time.Second)
				if n < 3 {
					return refusal(t, codes.PermissionDenied, "PERMISSION_DENIED", nil)
				}
				return refusal(t, codes.NotFound, "SUBSCRIPTION_NOT_FOUND", nil)
			})
			client := newTestClient(t, broker)
			consuming(t, client, nothing)
			warnings := 2 // of what was tried again
			if late {
				pass(10 * time.Minute)
				warnings++
			}
			if got := client.Run(t.Context()); ReasonOf(got) != "SUBSCRIPTION_NOT_FOUND" || len(at()) != 3 {
				t.Errorf("%s: Run returns %v after streams were opened at %v", name, got, at())
			}
			if client.log.count("level=WARN") != warnings || client.log.count("PERMISSION_DENIED") != 2 {
				t.Errorf("%s: the log says %s", name, client.log)
			}
		})
	}
}

func TestRunGoesOnOnceTheSubscriptionIsEnsuredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker, _ := openings(func(n int, call certesv1.EventService_SubscribeServer) error {
			if n == 1 {
				return refusal(t, codes.NotFound, "SUBSCRIPTION_NOT_FOUND", nil)
			}
			return serve(opened("s"), batchOf(1, deliveryOf(t, "a")))(nil, call)
		})
		client := newTestClient(t, broker)
		consuming(t, client, nothing)
		pass(time.Second)
		client.ensure(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := client.Run(ctx); err != nil || !slices.Equal(broker.acked(), []int64{1}) {
			t.Errorf("Run returns %v, and acknowledged is %v", err, broker.acked())
		}
	})
}

func TestAnAnswerThatSaysNothingOfTheSubscriptionIsTakenAsItsDefaults(t *testing.T) {
	for name, told := range map[string]*certesv1.Subscription{"nothing": nil, "no time": {AckDeadline: durationpb.New(1)}, "less": {AckDeadline: durationpb.New(-5)}} {
		synctest.Test(t, func(t *testing.T) {
			broker := &fakeBroker{subscribe: serve(opened("s"), batchOf(1, deliveryOf(t, "a")))}
			broker.update = func(*certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error) { return told, nil }
			client := newTestClient(t, broker)
			consuming(t, client, func(context.Context, *RawEvent) error {
				time.Sleep(15 * time.Second)
				return nil
			})
			pass(20 * time.Second)
			if !slices.Equal(broker.acked(), []int64{1}) || len(broker.acknowledged()) != 2 {
				t.Errorf("%s: acknowledged is %v by %v", name, broker.acked(), broker.acknowledged())
			}
		})
	}
}
