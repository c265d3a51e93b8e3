package certes

import (
	"sync"
	"testing/synctest"
	"time"
)

// record is what happened, from several goroutines.
type record[T any] struct {
	mu  sync.Mutex
	all []T
}

// add appends one, and returns how many there are.
func (r *record[T]) add(one T) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, one)
	return len(r.all)
}

func (r *record[T]) get() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]T{}, r.all...)
}

func (r *record[T]) len() int { return len(r.get()) }

// pass lets time pass on the clock of a synctest bubble, and everything happen that happens until then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
