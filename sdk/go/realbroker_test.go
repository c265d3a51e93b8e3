package certes

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

const pushType = "community.certes.dev/github/1/push"

// realBroker returns the URI of the broker that tests/integration starts. Without one there is nothing to test.
func realBroker(t *testing.T) string {
	t.Helper()
	uri := os.Getenv("CERTES_TEST_GATEWAY")
	if uri == "" {
		t.Skip("CERTES_TEST_GATEWAY names no broker")
	}
	return uri
}

// push is a message as the broker knows it.
func push(t *testing.T) proto.Message {
	t.Helper()
	schema := &certesv1.SchemaBinding{Domain: proto.String("community.certes.dev"), Namespace: proto.String("github"), Version: proto.Uint32(1)}
	return withNote(messageType(t, "certes.community.github.v1", "PushEvent", schema, &certesv1.EventBinding{Name: proto.String("push")}), "")
}

func TestTenReplicasEnsureOneSubscriptionAtOnceAndShareItsEvents(t *testing.T) {
	uri := realBroker(t)
	const replicas, events = 10, 200
	var handled record[string]
	all := make(chan struct{})
	var ensuring sync.WaitGroup
	for range replicas {
		client := connected(t, uri, WithApp("replicated"), WithGeneration(7))
		client.On(pushType, func(_ context.Context, raw *RawEvent) error {
			if handled.add(raw.ID) == events {
				close(all)
			}
			return nil
		})
		ensuring.Go(func() {
			wanted := Subscriptions{Events: []Selector{Event(pushType, nil), Event("community.certes.dev/github/1/issues", nil)}}
			if err := client.EnsureSubscriptions(t.Context(), wanted); err != nil {
				t.Error(err)
			}
		})
	}
	ensuring.Wait()
	client := connected(t, uri, WithApp("publisher"))
	var publishing sync.WaitGroup
	for i := range events {
		publishing.Go(func() {
			if _, err := client.Publish(t.Context(), Outgoing{Message: push(t), Everyone: true, ID: fmt.Sprint("replicated-", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	publishing.Wait()
	<-all
	seen := map[string]int{}
	for _, id := range handled.get() {
		seen[id]++
	}
	if len(seen) != events {
		t.Errorf("%d of %d events were handled", len(seen), events)
	}
}

func TestAReplicaOfAnOlderReleaseIsRefusedAtOnce(t *testing.T) {
	uri := realBroker(t)
	wanted := Subscriptions{Events: []Selector{Event(pushType, nil)}}
	if err := connected(t, uri, WithApp("released"), WithGeneration(8)).EnsureSubscriptions(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
	err := connected(t, uri, WithApp("released"), WithGeneration(7)).EnsureSubscriptions(t.Context(), wanted)
	if ReasonOf(err) != "STALE_GENERATION" || asError(err).Retryable {
		t.Errorf("it fails with %v", err)
	}
}

func TestPublishAllStoresAllOrNone(t *testing.T) {
	client := connected(t, realBroker(t), WithApp("bulk"))
	all := make([]Outgoing, 1000)
	for i := range all {
		all[i] = Outgoing{Message: push(t), Everyone: true, ID: fmt.Sprint("all-", i)}
	}
	all[999].ID = ""
	all[999].Subject = "\x00" // which the broker refuses
	receipts, err := client.PublishAll(t.Context(), all)
	if err == nil || receipts != nil || len(asError(err).Violations) != 1 || asError(err).Violations[0].Field != "events[999].subject" {
		t.Errorf("it returns %d receipts, %#v", len(receipts), err)
	}
	all[999].Subject = ""
	for _, duplicate := range []bool{false, true} {
		receipts, err = client.PublishAll(t.Context(), all)
		if err != nil || len(receipts) != 1000 {
			t.Fatalf("it returns %d receipts, %v", len(receipts), err)
		}
		for i, receipt := range receipts[:999] {
			if receipt.Duplicate != duplicate || receipt.Name == "" || receipt.ID != fmt.Sprint("all-", i) {
				t.Fatalf("event %d has the receipt %+v", i, receipt)
			}
		}
	}
	one, err := client.Publish(t.Context(), all[3])
	if err != nil || one != receipts[3] {
		t.Errorf("published alone, it has the receipt %+v, %v; wanted %+v", one, err, receipts[3])
	}
}

func TestWhatFailsComesAgainFromTheBroker(t *testing.T) {
	uri := realBroker(t)
	client := connected(t, uri, WithApp("failing"), WithLogger(slog.New(slog.DiscardHandler)))
	var attempts atomic.Int32
	again := make(chan int, 10)
	client.On(pushType, func(_ context.Context, raw *RawEvent) error {
		if raw.ID == "failing-1" {
			again <- raw.Attempt
			if attempts.Add(1) == 1 {
				panic("oh")
			}
		}
		return nil
	})
	if err := client.EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event(pushType, nil)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Publish(t.Context(), Outgoing{Message: push(t), Everyone: true, ID: "failing-1"}); err != nil {
		t.Fatal(err)
	}
	for want := 1; want <= 2; want++ {
		select {
		case got := <-again:
			if got != want {
				t.Errorf("attempt %d is told to be %d", want, got)
			}
		case <-time.After(time.Minute):
			t.Fatal("it does not come")
		}
	}
}

// The environment says what the broker asks for.
func TestWithItsCertificateItPublishesAndTakesAndWithoutOneItIsTold(t *testing.T) {
	uri := os.Getenv("CERTES_TEST_ASKING_GATEWAY")
	if uri == "" {
		t.Skip("CERTES_TEST_ASKING_GATEWAY names no broker")
	}
	client := connected(t, uri)
	come := make(chan string, 1)
	client.On(pushType, func(_ context.Context, raw *RawEvent) error {
		come <- raw.ID
		return nil
	})
	if err := client.EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event(pushType, nil)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Publish(t.Context(), Outgoing{Message: push(t), Subscriber: "org_1", ID: "asking-1"}); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-come:
		if id != "asking-1" {
			t.Errorf("it took %s", id)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not come")
	}
	t.Setenv("CERTES_CERTIFICATE", "")
	t.Setenv("CERTES_CERTIFICATE_KEY", "")
	_, err := connected(t, uri).connector.connect(t.Context())
	if ReasonOf(err) != ReasonGatewayUnreachable || !strings.Contains(asError(err).Hint, "certificate_key") {
		t.Errorf("without a certificate it fails with %v", err)
	}
}
