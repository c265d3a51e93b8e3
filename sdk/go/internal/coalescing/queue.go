// Package coalescing decides which events the next request carries.
//
// Rules
//
//   - Whatever waits goes into the next request, in the order of its arrival: at most 64 events and 1 MiB; a larger event alone.
//   - At most 1,024 events and 8 MiB are under way.
//   - Of one ordering key at most one request is under way. An event whose key is held back is passed over by later ones of other
//     keys; when its key is free it goes before what came after it.
//
// # Theory of operation
//
// Events without a key are one line. Each key has a line of its own, and those lines whose key is free are in a heap, by the
// arrival of their first event. So the next event is the earlier one of two, and a held-back key costs nothing until it is free,
// however many of its events wait.
package coalescing

import (
	"cmp"
	"container/heap"
)

// Limits of requests.
const (
	RequestEvents  = 64
	RequestBytes   = 1 << 20
	UnderWayEvents = 1024
	UnderWayBytes  = 8 << 20
)

// Event is what the queue has to know of an event.
type Event interface {
	comparable
	Bytes() int
	Key() string
	// Alone says that it must be the only event of its request.
	Alone() bool
}

// Queue holds events that wait, and counts those under way. The zero value is empty. It is not safe for concurrent use.
type Queue[E Event] struct {
	arrivals int64
	plain    line[E]
	returned line[E] // events without a key that go before all others
	keys     map[string]*keyLine[E]
	free     keyHeap[E]

	waiting, waitingBytes   int
	underWay, underWayBytes int
}

// Waiting returns how many events wait, and their bytes.
func (q *Queue[E]) Waiting() (events, bytes int) { return q.waiting, q.waitingBytes }

// UnderWay returns how many events are under way, and their bytes.
func (q *Queue[E]) UnderWay() (events, bytes int) { return q.underWay, q.underWayBytes }

// Add puts an event at the end.
func (q *Queue[E]) Add(e E) {
	q.arrivals++
	q.count(e, 1)
	entry := entry[E]{q.arrivals, e}
	if e.Key() == "" {
		q.plain.push(entry)
		return
	}
	line := q.keys[e.Key()]
	if line == nil {
		if q.keys == nil {
			q.keys = map[string]*keyLine[E]{}
		}
		line = &keyLine[E]{place: -1}
		q.keys[e.Key()] = line
	}
	line.push(entry)
	q.offer(line)
}

// Take appends the events of the next request to into and returns it. Nothing is appended if no event may be sent.
func (q *Queue[E]) Take(into []E) []E {
	begin, bytes := len(into), 0
	for count := 0; count < RequestEvents && q.underWay < UnderWayEvents; count++ {
		next, from := q.next()
		if from == nil {
			break
		}
		size := next.Bytes()
		// What is larger than a limit goes alone, since it could never go otherwise.
		if count > 0 && (bytes+size > RequestBytes || next.Alone()) || q.underWay > 0 && q.underWayBytes+size > UnderWayBytes {
			break
		}
		from.pop()
		if key := next.Key(); key != "" {
			line := q.keys[key]
			if line.empty() {
				q.withdraw(line)
			} else {
				heap.Fix(&q.free, line.place)
			}
		}
		q.count(next, -1)
		q.underWay++
		q.underWayBytes += size
		bytes += size
		into = append(into, next)
		if next.Alone() {
			break
		}
	}
	for _, e := range into[begin:] {
		if key := e.Key(); key != "" {
			line := q.keys[key]
			line.underWay++
			q.withdraw(line)
		}
	}
	return into
}

// Answered says that events are under way no more.
func (q *Queue[E]) Answered(events []E) {
	for _, e := range events {
		q.land(e)
	}
	for _, e := range events {
		q.release(e.Key())
	}
}

// Return puts events that were under way back before all others, in their order.
func (q *Queue[E]) Return(events []E) {
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		q.land(e)
		q.count(e, 1)
		if e.Key() == "" {
			q.returned.pushFront(entry[E]{0, e})
		} else {
			q.keys[e.Key()].pushFront(entry[E]{0, e})
		}
	}
	for _, e := range events {
		q.release(e.Key())
	}
}

// Drain removes everything that waits and returns it.
func (q *Queue[E]) Drain() []E {
	var found []E
	for _, line := range []*line[E]{&q.returned, &q.plain} {
		for ; !line.empty(); line.pop() {
			found = append(found, line.first().event)
		}
	}
	for key, line := range q.keys {
		q.withdraw(line)
		for ; !line.empty(); line.pop() {
			found = append(found, line.first().event)
		}
		q.release(key)
	}
	q.waiting, q.waitingBytes = 0, 0
	return found
}

// Purge removes those that wait and are unwanted.
func (q *Queue[E]) Purge(unwanted func(E) bool) {
	purge := func(line *line[E]) {
		line.keep(func(e E) bool {
			if !unwanted(e) {
				return true
			}
			q.count(e, -1)
			return false
		})
	}
	purge(&q.returned)
	purge(&q.plain)
	for key, line := range q.keys {
		q.withdraw(line)
		purge(&line.line)
		q.release(key)
	}
}

// next returns the event that would go first, and the line that it is in.
func (q *Queue[E]) next() (E, *line[E]) {
	best := &q.returned
	if best.empty() {
		best = &q.plain
	}
	if len(q.free) > 0 && (best.empty() || q.free[0].first().arrival < best.first().arrival) {
		best = &q.free[0].line
	}
	if best.empty() {
		var none E
		return none, nil
	}
	return best.first().event, best
}

func (q *Queue[E]) count(e E, n int) {
	q.waiting += n
	q.waitingBytes += n * e.Bytes()
}

func (q *Queue[E]) land(e E) {
	q.underWay--
	q.underWayBytes -= e.Bytes()
	if key := e.Key(); key != "" {
		q.keys[key].underWay--
	}
}

// release lets the events of a key go, if it is free, and forgets a key that nothing waits for.
func (q *Queue[E]) release(key string) {
	line := q.keys[key]
	if key == "" || line == nil || line.underWay > 0 {
		return
	}
	if line.empty() {
		delete(q.keys, key)
		return
	}
	q.offer(line)
}

func (q *Queue[E]) offer(line *keyLine[E]) {
	switch {
	case line.underWay > 0:
	case line.place < 0:
		heap.Push(&q.free, line)
	default:
		heap.Fix(&q.free, line.place)
	}
}

func (q *Queue[E]) withdraw(line *keyLine[E]) {
	if line.place >= 0 {
		heap.Remove(&q.free, line.place)
	}
}

// entry is an event and when it came, as a count.
type entry[E any] struct {
	arrival int64
	event   E
}

// line is first in, first out, and can be put into from the front.
type line[E any] struct {
	entries []entry[E]
	head    int
}

func (l *line[E]) empty() bool     { return l.head == len(l.entries) }
func (l *line[E]) first() entry[E] { return l.entries[l.head] }

func (l *line[E]) push(e entry[E]) {
	// The room in front is used again once it is half of it all, so that each event is moved once at most on average.
	if l.head > len(l.entries)/2 && len(l.entries) == cap(l.entries) {
		n := copy(l.entries, l.entries[l.head:])
		clear(l.entries[n:])
		l.entries, l.head = l.entries[:n], 0
	}
	l.entries = append(l.entries, e)
}

func (l *line[E]) pushFront(e entry[E]) {
	if l.head == 0 {
		room := len(l.entries) + 8
		l.entries = append(make([]entry[E], room, room+len(l.entries)), l.entries...)
		l.head = room
	}
	l.head--
	l.entries[l.head] = e
}

func (l *line[E]) pop() {
	l.entries[l.head] = entry[E]{}
	if l.head++; l.empty() {
		l.entries, l.head = l.entries[:0], 0
	}
}

func (l *line[E]) keep(wanted func(E) bool) {
	kept := l.entries[:0]
	for _, e := range l.entries[l.head:] {
		if wanted(e.event) {
			kept = append(kept, e)
		}
	}
	clear(l.entries[len(kept):])
	l.entries, l.head = kept, 0
}

// keyLine is the line of one ordering key.
type keyLine[E any] struct {
	line[E]
	underWay int
	place    int // in the heap; -1 outside it
}

// keyHeap orders lines that are not empty by the arrival of their first event.
type keyHeap[E any] []*keyLine[E]

func (h keyHeap[E]) Len() int { return len(h) }
func (h keyHeap[E]) Less(i, j int) bool {
	return cmp.Less(h[i].first().arrival, h[j].first().arrival)
}
func (h keyHeap[E]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is for package heap.
func (h *keyHeap[E]) Push(x any) {
	line := x.(*keyLine[E])
	line.place = len(*h)
	*h = append(*h, line)
}

// Pop is for package heap.
func (h *keyHeap[E]) Pop() any {
	last := len(*h) - 1
	line := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	line.place = -1
	return line
}
