package certes

import (
	"context"
	"sync"
)

// workers run handlers, at most so many at once. What waits for a free place is bounded by whoever puts it in: the broker hands out no
// more than max_outstanding, and an HTTP server holds the others.
//
// A worker is started when there is work, by the one that was started before it, and ends when there is none. So quick handlers run one
// after another on a warm stack, without a wake-up for each event; and where a handler waits, the next worker starts at once.
type workers struct {
	limit int

	mu       sync.Mutex
	waiting  []work
	head     int
	running  int
	starting bool // one was started, and has not taken anything yet
	closed   bool
	idle     *sync.Cond // running went to 0
}

// work is something to run; drop is called instead where it was not begun when everything ends.
type work interface {
	run()
	drop()
}

func newWorkers(limit int) *workers {
	w := &workers{limit: limit}
	w.idle = sync.NewCond(&w.mu)
	return w
}

// add puts work at the end. It drops it if all is over.
func (w *workers) add(all ...work) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		for _, one := range all {
			one.drop()
		}
		return
	}
	if w.head > 0 && len(w.waiting)+len(all) > cap(w.waiting) {
		n := copy(w.waiting, w.waiting[w.head:])
		clear(w.waiting[n:])
		w.waiting, w.head = w.waiting[:n], 0
	}
	w.waiting = append(w.waiting, all...)
	w.start()
	w.mu.Unlock()
}

// start starts a worker if there is work for one more. The caller has the lock.
func (w *workers) start() {
	if !w.starting && w.head < len(w.waiting) && w.running < w.limit {
		w.starting = true
		w.running++
		go w.work()
	}
}

func (w *workers) work() {
	started := false
	defer func() {
		// Also where a handler called runtime.Goexit, as t.FailNow does: then another worker takes over.
		w.mu.Lock()
		if !started {
			w.starting = false
		}
		if w.running--; w.running == 0 {
			w.idle.Broadcast()
		}
		w.start()
		w.mu.Unlock()
	}()
	for {
		w.mu.Lock()
		if !started {
			started, w.starting = true, false
		}
		if w.head == len(w.waiting) {
			w.waiting, w.head = w.waiting[:0], 0
			w.mu.Unlock()
			return
		}
		one := w.waiting[w.head]
		w.waiting[w.head] = nil
		w.head++
		w.start()
		w.mu.Unlock()
		one.run()
	}
}

// close drops what was not begun, takes no more, and waits for what runs, at most until the context ends. It says whether all ended.
func (w *workers) close(ctx context.Context) bool {
	w.mu.Lock()
	w.closed = true
	dropped := w.waiting[w.head:]
	w.waiting, w.head = nil, 0
	w.mu.Unlock()
	for _, one := range dropped {
		one.drop()
	}
	defer context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.idle.Broadcast()
	})()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.running > 0 && ctx.Err() == nil {
		w.idle.Wait()
	}
	return w.running == 0
}
