package certes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// many are so many events for everyone, whose ids are their indices.
func many(t *testing.T, count int) []Outgoing {
	t.Helper()
	message := done(t, "x")
	all := make([]Outgoing, count)
	for i := range all {
		all[i] = Outgoing{Message: message, Everyone: true, ID: fmt.Sprint(i)}
	}
	return all
}

func TestPublishAllIsOneRequestWhoseReceiptsAreInTheOrderOfTheEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		broker.whole = func(request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
			answer := stored(request)
			answer.GetResults()[7].Duplicate = true
			return answer, nil
		}
		client := newTestClient(t, broker)
		all := many(t, 1000)
		all[8].ID = ""
		all[9].OrderingKey, all[9].Subscriber, all[9].Everyone = "k", "org_1", false
		receipts, err := client.PublishAll(t.Context(), all)
		if err != nil || len(receipts) != 1000 || len(broker.asked()) != 1 || len(broker.requests()) != 0 {
			t.Fatalf("%d receipts, %v, of %d requests", len(receipts), err, len(broker.asked()))
		}
		for i, event := range broker.asked()[0].GetEvents() {
			want := Receipt{ID: event.GetId(), Name: "events/" + event.GetId(), Duplicate: i == 7}
			if receipts[i] != want || i != 8 && event.GetId() != fmt.Sprint(i) || event.GetType() != doneType {
				t.Errorf("event %d was sent as %v, and its receipt is %+v", i, event, receipts[i])
			}
		}
		if event := broker.asked()[0].GetEvents()[9]; event.GetSubscriber() != "org_1" || event.GetOrderingKey() != "k" || len(receipts[8].ID) != 36 {
			t.Errorf("sent was %v, and the id that was made is %q", event, receipts[8].ID)
		}
	})
}

func TestARefusalOfPublishAllIsThatOfAllEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{whole: func(*certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
			return nil, refusal(t, codes.InvalidArgument, "UNKNOWN_EVENT_TYPE", nil)
		}}
		receipts, err := newTestClient(t, broker).PublishAll(t.Context(), many(t, 3))
		if receipts != nil || ReasonOf(err) != "UNKNOWN_EVENT_TYPE" || len(broker.asked()) != 1 {
			t.Errorf("it returns %v, %v after %d requests", receipts, err, len(broker.asked()))
		}
	})
}

func TestPublishAllSendsNothingWhereAnEventIsAtFaultAndSaysWhichOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		client := newTestClient(t, broker)
		all := many(t, 3)
		all[2].Everyone = false
		receipts, err := client.PublishAll(t.Context(), all)
		if receipts != nil || ReasonOf(err) != ReasonAudienceMissing || !strings.Contains(err.Error(), "events[2]") || len(broker.asked()) != 0 {
			t.Errorf("it returns %v, %v after %d requests", receipts, err, len(broker.asked()))
		}
		if receipts, err := client.PublishAll(t.Context(), nil); err != nil || len(receipts) != 0 || len(broker.asked()) != 0 {
			t.Errorf("for no events it returns %v, %v after %d requests", receipts, err, len(broker.asked()))
		}
	})
}

func TestPublishAllRefusesMoreThanAThousandEventsAsTheBrokerDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		_, err := newTestClient(t, broker).PublishAll(t.Context(), many(t, 1001))
		refused := asError(err)
		if refused.Error() != "TOO_MANY_EVENTS: events: has 1001 events; 1000 are allowed in one request" || refused.Metadata["limit"] != "1000" ||
			refused.Hint == "" || refused.Code != codes.InvalidArgument || !slices.Equal(refused.Violations, []Violation{{"events", "has 1001 events; 1000 are allowed in one request"}}) {
			t.Errorf("it fails with %#v", refused)
		}
		if len(broker.asked()) != 0 {
			t.Error("the broker was asked")
		}
	})
}

func TestPublishAllTakesFourMebibytesAndRefusesAByteMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		client := newTestClient(t, broker)
		all := many(t, 5)
		for i := range all {
			all[i].Message = done(t, strings.Repeat("x", 800<<10))
		}
		if _, err := client.PublishAll(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		// The lengths of the fields take as many bytes for what is missing.
		missing := 4<<20 - proto.Size(broker.asked()[0])
		all[4].Message = done(t, strings.Repeat("x", 800<<10+missing))
		if _, err := client.PublishAll(t.Context(), all); err != nil || proto.Size(broker.asked()[1]) != 4<<20 {
			t.Errorf("with %d bytes it fails with %v", proto.Size(broker.asked()[1]), err)
		}
		all[4].Message = done(t, strings.Repeat("x", 800<<10+missing+1))
		_, err := client.PublishAll(t.Context(), all)
		refused := asError(err)
		if refused.Error() != "REQUEST_TOO_LARGE: The request has 4194305 bytes; 4194304 are allowed." || refused.Metadata["bytes"] != "4194305" ||
			refused.Metadata["limit"] != "4194304" || refused.Hint == "" || refused.Code != codes.InvalidArgument || len(broker.asked()) != 2 {
			t.Errorf("it fails with %#v after %d requests", refused, len(broker.asked()))
		}
	})
}

func TestPublishAllIsTriedAgainWithTheSameIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{}
		broker.whole = func(request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
			switch len(broker.asked()) {
			case 1:
				return nil, status.Error(codes.Unavailable, "gone")
			case 2:
				full, err := status.New(codes.ResourceExhausted, "full").WithDetails(
					&errdetails.ErrorInfo{Reason: "BUFFER_FULL"}, &errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
				return nil, errors.Join(full.Err(), err)
			}
			return stored(request), nil
		}
		client := newTestClient(t, broker)
		all := many(t, 2)
		all[0].ID, all[1].ID = "", ""
		began := time.Now()
		receipts, err := client.PublishAll(t.Context(), all)
		if took := time.Since(began); err != nil || took < 7*time.Second+50*time.Millisecond || took > 7*time.Second+100*time.Millisecond {
			t.Errorf("it returns %v after %v", err, took)
		}
		for _, request := range broker.asked() {
			if !proto.Equal(request, broker.asked()[0]) || request.GetEvents()[1].GetId() != receipts[1].ID {
				t.Errorf("sent was %v; the receipts are %v", request, receipts)
			}
		}
		if len(broker.asked()) != 3 {
			t.Errorf("it was sent %d times", len(broker.asked()))
		}
	})
}

func TestPublishAllGivesUpAfterAMinuteAndSaysWhatStoodInTheWay(t *testing.T) {
	for _, reason := range []string{"", "STORAGE_UNAVAILABLE"} {
		synctest.Test(t, func(t *testing.T) {
			hanging := make(chan struct{})
			broker := &fakeBroker{whole: func(*certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
				if reason == "" {
					<-hanging
				}
				return nil, refusal(t, codes.Unavailable, reason, nil)
			}}
			client := newTestClient(t, broker)
			began := time.Now()
			receipts, err := client.PublishAll(t.Context(), many(t, 2))
			if receipts != nil || ReasonOf(err) != ReasonTimedOut || time.Since(began) != time.Minute || !strings.Contains(err.Error(), reason) {
				t.Errorf("it returns %v, %v after %v", receipts, err, time.Since(began))
			}
			close(hanging)
		})
	}
}

func TestPublishAllEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := make(chan struct{})
		broker := &fakeBroker{whole: func(request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
			if len(request.GetEvents()) == 2 {
				return nil, status.Error(codes.Unavailable, "gone") // so that it waits to be tried again
			}
			<-hanging
			return nil, errors.New("over")
		}}
		client := newTestClient(t, broker)
		for _, events := range []int{1, 2} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := client.PublishAll(ctx, many(t, events))
			if ReasonOf(err) != ReasonTimedOut || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("with a context that is over it fails with %v", err)
			}
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err = client.PublishAll(ctx, many(t, events))
			if e := asError(err); e.Code != codes.Canceled || e.Retryable || !errors.Is(err, context.Canceled) {
				t.Errorf("with a context that is cancelled it fails with %v", err)
			}
			if _, err := client.PublishAll(ctx, many(t, events)); asError(err).Code != codes.Canceled {
				t.Errorf("with a context that was cancelled before it fails with %v", err)
			}
		}
		close(hanging)
	})
}

func TestAnAnswerToPublishAllThatDoesNotFitIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := &fakeBroker{whole: func(*certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
			return &certesv1.PublishResponse{Results: make([]*certesv1.PublishResult, 1)}, nil
		}}
		receipts, err := newTestClient(t, broker).PublishAll(t.Context(), many(t, 2))
		if receipts != nil || ReasonOf(err) != "INTERNAL" {
			t.Errorf("it returns %v, %v", receipts, err)
		}
	})
}

func TestCloseWaitsForPublishAllAndTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answering := make(chan struct{})
		broker := &fakeBroker{whole: func(request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
			<-answering
			return stored(request), nil
		}}
		client := newTestClient(t, broker)
		outcome := make(chan error, 1)
		go func() {
			_, err := client.PublishAll(context.Background(), many(t, 2))
			outcome <- err
		}()
		synctest.Wait()
		time.AfterFunc(20*time.Second, func() { close(answering) })
		began := time.Now()
		if err := client.Close(t.Context()); err != nil || time.Since(began) != 20*time.Second {
			t.Errorf("Close returns %v after %v", err, time.Since(began))
		}
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		if _, err := client.PublishAll(t.Context(), many(t, 2)); ReasonOf(err) != ReasonClientClosed {
			t.Errorf("after Close it fails with %v", err)
		}
	})
}

func TestCloseGivesUpAPublishAllThatIsNotAnswered(t *testing.T) {
	for name, refused := range map[string]bool{"as the broker hangs": false, "as it waits to be tried again": true} {
		synctest.Test(t, func(t *testing.T) {
			hanging := make(chan struct{})
			broker := &fakeBroker{whole: func(request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
				if !refused {
					<-hanging
					return stored(request), nil
				}
				full, err := status.New(codes.ResourceExhausted, "full").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Hour)})
				return nil, errors.Join(full.Err(), err)
			}}
			client := newTestClient(t, broker)
			began := time.Now()
			outcome := make(chan error, 1)
			go func() {
				_, err := client.PublishAll(context.Background(), many(t, 2))
				if time.Since(began) != 30*time.Second {
					t.Errorf("%s, the call ends after %v", name, time.Since(began))
				}
				outcome <- err
			}()
			synctest.Wait()
			if err := client.Close(t.Context()); err != nil || time.Since(began) != 30*time.Second {
				t.Errorf("%s, Close returns %v after %v", name, err, time.Since(began))
			}
			if err := <-outcome; ReasonOf(err) != ReasonTimedOut || !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s, the call fails with %v", name, err)
			}
			close(hanging)
		})
	}
}
