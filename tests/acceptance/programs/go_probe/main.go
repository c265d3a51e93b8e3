// Does with the SDK what its first argument, a JSON document, says, and prints a JSON document a line of what happens.
//
// `publish`: pings of several keys, `window` calls under way, in the order of their numbers. `stream` and `webhook`: handles
// what matches `pattern`; the first `fail_first` times that an event comes, its handler fails.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"google.golang.org/protobuf/proto"

	certes "github.com/hookactions/certes-sdk/go"

	gh "github.com/hookactions/certes-contrib/github"
)

type settings struct {
	Gateway    string   `json:"gateway"`
	App        string   `json:"app"`
	Subscriber string   `json:"subscriber"`
	Mode       string   `json:"mode"`
	Pattern    string   `json:"pattern"`
	FailFirst  int      `json:"fail_first"`
	Keys       []string `json:"keys"`
	Events     int      `json:"events"`
	Window     int      `json:"window"`
	Port       int      `json:"port"`
}

var (
	printing sync.Mutex
	come     = map[string]int{}
)

func say(what map[string]any) {
	line, err := json.Marshal(what)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func (s settings) handle(raw *certes.RawEvent) error {
	var event gh.PingEvent
	if err := raw.To(&event); err != nil {
		return err
	}
	printing.Lock()
	defer printing.Unlock()
	come[raw.ID]++
	failed := come[raw.ID] <= s.FailFirst
	say(map[string]any{"got": raw.ID, "zen": event.GetZen(), "key": raw.OrderingKey, "attempt": raw.Attempt, "failed": failed})
	if failed {
		return fmt.Errorf("not yet: %s", raw.ID)
	}
	return nil
}

// Starts the calls of a key one after another: each is queued before the next one begins.
func (s settings) publish(ctx context.Context) error {
	var calls sync.WaitGroup
	failures := make(chan error, len(s.Keys))
	for _, key := range s.Keys {
		calls.Add(1)
		go func() {
			defer calls.Done()
			for number := 1; number <= s.Events; number++ {
				id := fmt.Sprintf("%s:%d", key, number)
				receipt, err := certes.Publish(ctx, certes.Outgoing{
					Message: &gh.PingEvent{Zen: proto.String("zen of " + id)}, Everyone: true, ID: id, OrderingKey: key,
				})
				if err != nil {
					failures <- err
					return
				}
				printing.Lock()
				say(map[string]any{"accepted": receipt.ID, "duplicate": receipt.Duplicate})
				printing.Unlock()
			}
		}()
	}
	calls.Wait()
	close(failures)
	if err, failed := <-failures; failed {
		return err
	}
	if err := certes.Close(ctx); err != nil {
		return err
	}
	say(map[string]any{"done": true})
	return nil
}

func (s settings) subscribe() error {
	if err := certes.EnsureSubscriptions(certes.Event(s.Pattern, nil)); err != nil {
		return err
	}
	say(map[string]any{"ready": true})
	return nil
}

func (s settings) stream(ctx context.Context) error {
	certes.On(s.Pattern, s.handle)
	if err := s.subscribe(); err != nil {
		return err
	}
	if err := certes.Run(ctx); err != nil {
		return err
	}
	return s.end()
}

func (s settings) webhook(ctx context.Context) error {
	certes.On(s.Pattern, s.handle)
	routes := http.NewServeMux()
	routes.HandleFunc("/hook", certes.HttpHandler())
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", s.Port), Handler: routes}
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	subscribed := make(chan error, 1)
	go func() { subscribed <- s.subscribe() }()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	if err := <-subscribed; err != nil {
		return err
	}
	return s.end()
}

func (s settings) end() error {
	if err := certes.Close(context.Background()); err != nil {
		return err
	}
	say(map[string]any{"closed": true})
	return nil
}

func main() {
	var s settings
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		log.Fatal(err)
	}
	options := []certes.Option{certes.WithApp(s.App), certes.WithSubscriber(s.Subscriber)}
	if s.Mode == "webhook" {
		options = append(options, certes.WithCallbackURL(fmt.Sprintf("http://127.0.0.1:%d/hook", s.Port)))
	}
	if err := certes.Init(s.Gateway, options...); err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	run := map[string]func(context.Context) error{"publish": s.publish, "stream": s.stream, "webhook": s.webhook}[s.Mode]
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}
