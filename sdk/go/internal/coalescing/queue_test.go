package coalescing_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/hookactions/certes-sdk/go/internal/coalescing"
)

type event struct {
	id, key string
	bytes   int
	alone   bool
}

func (e *event) Bytes() int  { return e.bytes }
func (e *event) Key() string { return e.key }
func (e *event) Alone() bool { return e.alone }

func ids(events []*event) []string {
	found := []string{}
	for _, e := range events {
		found = append(found, e.id)
	}
	return found
}

func TestRequestsAreThoseOfTheVectors(t *testing.T) {
	content, err := os.ReadFile("../../../../tests/vectors/coalescing.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Queues []struct {
			Why   string
			Steps []struct {
				Add []struct {
					ID, Key string
					Bytes   int
				}
				Take, Answered []string
			}
		}
	}
	if err := json.Unmarshal(content, &vectors); err != nil || len(vectors.Queues) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, v := range vectors.Queues {
		var queue coalescing.Queue[*event]
		known := map[string]*event{}
		for i, step := range v.Steps {
			for _, a := range step.Add {
				known[a.ID] = &event{id: a.ID, key: a.Key, bytes: a.Bytes}
				queue.Add(known[a.ID])
			}
			var answered []*event
			for _, id := range step.Answered {
				answered = append(answered, known[id])
			}
			queue.Answered(answered)
			if step.Take != nil {
				if got := ids(queue.Take(nil)); !slices.Equal(got, step.Take) {
					t.Errorf("%s: step %d takes %v; wanted %v", v.Why, i, got, step.Take)
				}
			}
		}
	}
}

func TestReturnedEventsGoFirstAndKeepTheirOrder(t *testing.T) {
	var queue coalescing.Queue[*event]
	k1, k2, k3 := &event{id: "k1", key: "K"}, &event{id: "k2", key: "K"}, &event{id: "k3", key: "K"}
	p1, p2 := &event{id: "p1"}, &event{id: "p2"}
	for _, e := range []*event{k1, p1, k2} {
		queue.Add(e)
	}
	taken := queue.Take(nil)
	queue.Add(k3)
	queue.Add(p2)
	queue.Return(taken)
	if got := ids(queue.Take(nil)); !slices.Equal(got, []string{"p1", "k1", "k2", "k3", "p2"}) {
		t.Errorf("it takes %v", got)
	}
}

func TestAnEventThatMustGoAloneHoldsItsKeyUntilItIsAnswered(t *testing.T) {
	var queue coalescing.Queue[*event]
	k1, k2, p := &event{id: "k1", key: "K", alone: true}, &event{id: "k2", key: "K", alone: true}, &event{id: "p"}
	for _, e := range []*event{p, k1, k2} {
		queue.Add(e)
	}
	for _, want := range [][]string{{"p"}, {"k1"}, {}} {
		if got := ids(queue.Take(nil)); !slices.Equal(got, want) {
			t.Fatalf("it takes %v; wanted %v", got, want)
		}
	}
	queue.Answered([]*event{k1})
	if got := ids(queue.Take(nil)); !slices.Equal(got, []string{"k2"}) {
		t.Errorf("it takes %v", got)
	}
}

func TestAnEventLargerThanEveryLimitStillGoesOnce(t *testing.T) {
	var queue coalescing.Queue[*event]
	queue.Add(&event{id: "huge", bytes: coalescing.UnderWayBytes + 1})
	if got := ids(queue.Take(nil)); !slices.Equal(got, []string{"huge"}) {
		t.Errorf("it takes %v", got)
	}
}

func TestNothingIsLeftBehindOfWhatWasAnswered(t *testing.T) {
	var queue coalescing.Queue[*event]
	for round := range 1000 {
		e := &event{id: "e", key: string(rune('a' + round%26)), bytes: 10}
		queue.Add(e)
		queue.Answered(queue.Take(nil))
	}
	events, bytes := queue.Waiting()
	underWay, underWayBytes := queue.UnderWay()
	if events != 0 || bytes != 0 || underWay != 0 || underWayBytes != 0 || len(queue.Drain()) != 0 {
		t.Errorf("%d events wait with %d bytes, %d are under way with %d bytes", events, bytes, underWay, underWayBytes)
	}
}

func TestDrainReturnsWhatWaitsOfEveryKey(t *testing.T) {
	var queue coalescing.Queue[*event]
	a1, a2, p := &event{id: "a1", key: "A"}, &event{id: "a2", key: "A"}, &event{id: "p"}
	queue.Add(a1)
	taken := queue.Take(nil)
	queue.Add(a2)
	queue.Add(p)
	if got := ids(queue.Drain()); !slices.Equal(got, []string{"p", "a2"}) {
		t.Errorf("it drains %v", got)
	}
	queue.Answered(taken)
	if got := queue.Take(nil); len(got) != 0 {
		t.Errorf("it takes %v", ids(got))
	}
}

func TestPurgeRemovesWhatIsUnwantedAndKeepsTheRestInOrder(t *testing.T) {
	var queue coalescing.Queue[*event]
	a1, a2, p1, p2 := &event{id: "a1", key: "A", bytes: 1}, &event{id: "a2", key: "A", bytes: 1}, &event{id: "p1", bytes: 1}, &event{id: "p2", bytes: 1}
	for _, e := range []*event{a1, p1, a2, p2} {
		queue.Add(e)
	}
	queue.Purge(func(e *event) bool { return e == a1 || e == p2 })
	if events, bytes := queue.Waiting(); events != 2 || bytes != 2 {
		t.Errorf("%d events wait with %d bytes", events, bytes)
	}
	if got := ids(queue.Take(nil)); !slices.Equal(got, []string{"p1", "a2"}) {
		t.Errorf("it takes %v", got)
	}
}
