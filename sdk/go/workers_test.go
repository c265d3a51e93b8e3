package certes

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type workFunc struct{ do, dropped func() }

func (w workFunc) run()  { w.do() }
func (w workFunc) drop() { w.dropped() }

func TestEverythingIsRunOnceHoweverManyPutItIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newWorkers(8)
		var ran atomic.Int32
		one := workFunc{func() { ran.Add(1) }, func() { t.Error("something was dropped") }}
		for range 50 {
			go func() {
				for range 100 {
					pool.add(one, one)
				}
			}()
		}
		synctest.Wait()
		if ran.Load() != 10_000 || !pool.close(t.Context()) {
			t.Errorf("%d were run", ran.Load())
		}
	})
}

func TestWorkThatEndsItsGoroutineIsNotTheEndOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newWorkers(1)
		var ran atomic.Int32
		for i := range 10 {
			pool.add(workFunc{func() {
				ran.Add(1)
				if i%2 == 0 {
					runtime.Goexit()
				}
			}, nil})
		}
		synctest.Wait()
		if ran.Load() != 10 || !pool.close(t.Context()) {
			t.Errorf("%d of 10 were run", ran.Load())
		}
	})
}

func TestClosingDropsWhatWaitsAndWaitsForWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newWorkers(1)
		var ran, dropped atomic.Int32
		for range 3 {
			pool.add(workFunc{func() { time.Sleep(time.Minute); ran.Add(1) }, func() { dropped.Add(1) }})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if pool.close(ctx) || dropped.Load() != 2 || ran.Load() != 0 {
			t.Errorf("%d ran, %d were dropped", ran.Load(), dropped.Load())
		}
		if !pool.close(t.Context()) || ran.Load() != 1 {
			t.Errorf("%d ran", ran.Load())
		}
		pool.add(workFunc{nil, func() { dropped.Add(1) }})
		if dropped.Load() != 3 {
			t.Error("work was taken after the end")
		}
	})
}
