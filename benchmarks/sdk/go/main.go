// The SDK for Go from publish to handled and acknowledged, for benchmarks/sdk.
//
//	go run . '{"gateway": "events://127.0.0.1:9600", "app": "bench", "window": 256, "events": 100000, "payload_bytes": 1024}'
//
// It warms up with 2,000 events, says that it is ready, waits for a line on standard input, and then keeps so many one-event calls
// unanswered until all events were published, handled and acknowledged.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hookactions/certes-contrib/github"
	certes "github.com/hookactions/certes-sdk/go"
)

const (
	pushType     = "community.certes.dev/github/1/push"
	warmUpEvents = 2000
	// What an event takes beside the text that pads it.
	envelopeBytes = 230
)

type task struct {
	Gateway      string `json:"gateway"`
	App          string `json:"app"`
	Window       int    `json:"window"`
	Events       int    `json:"events"`
	PayloadBytes int    `json:"payload_bytes"`
}

type bench struct {
	client      *certes.Client
	task        task
	padding     string
	handled     atomic.Int64
	redelivered atomic.Int64
	wanted      atomic.Int64
	reached     chan struct{}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("one argument is wanted: the task, as JSON")
	}
	b := &bench{reached: make(chan struct{}, 1)}
	if err := json.Unmarshal([]byte(os.Args[1]), &b.task); err != nil {
		log.Fatal(err)
	}
	if err := b.run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	b.padding = strings.Repeat("x", max(0, b.task.PayloadBytes-envelopeBytes))
	b.client, err = certes.NewClient(b.task.Gateway, certes.WithApp(b.task.App))
	if err != nil {
		return err
	}
	b.client.On(pushType, b.handle)
	if err := b.client.EnsureSubscriptions(ctx, certes.Subscriptions{Events: []certes.Selector{certes.Event(pushType, nil)}}); err != nil {
		return err
	}
	if err := b.publish(ctx, warmUpEvents); err != nil {
		return err
	}
	fmt.Println(`{"ready": true}`)
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	b.handled.Store(0)
	b.redelivered.Store(0)
	if path := os.Getenv("CPU_PROFILE"); path != "" {
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	began, cpu := time.Now(), cpuSeconds()
	if err := b.publish(ctx, b.task.Events); err != nil {
		return err
	}
	if err := b.client.Close(ctx); err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"seconds":     seconds,
		"events":      b.task.Events,
		"handled":     b.handled.Load(),
		"redelivered": b.redelivered.Load(),
		"cpu_seconds": cpuSeconds() - cpu,
	})
}

func (b *bench) handle(_ context.Context, raw *certes.RawEvent) error {
	var event github.PushEvent
	if err := raw.To(&event); err != nil {
		return err
	}
	if raw.Attempt > 1 {
		b.redelivered.Add(1)
	}
	if b.handled.Add(1) == b.wanted.Load() {
		b.reached <- struct{}{}
	}
	return nil
}

// publish publishes so many events, each by a call of its own, and returns when they are handled.
func (b *bench) publish(ctx context.Context, events int) error {
	b.wanted.Store(b.handled.Load() + int64(events))
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var callers sync.WaitGroup
	for range b.task.Window {
		callers.Go(func() {
			for failed.Load() == nil {
				number := next.Add(1)
				if number > int64(events) {
					return
				}
				message := &github.PushEvent{
					Ref:        "refs/heads/branch-" + strconv.FormatInt(number, 10),
					HeadCommit: &github.Commit{Message: b.padding},
				}
				if _, err := b.client.Publish(ctx, certes.Outgoing{Message: message, Everyone: true}); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	callers.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	select {
	case <-b.reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
