// Webhook prints the pushes that GitHub tells of. The broker POSTs events to a server of the program, which verifies their signatures.
//
//	CERTES_APP=meetly CERTES_CALLBACK_URL=http://127.0.0.1:8080/certes go run ./webhook events://localhost 127.0.0.1:8080
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	gh "github.com/hookactions/certes-contrib/github"
	certes "github.com/hookactions/certes-sdk/go"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("two arguments are wanted: the gateway, such as events://localhost, and where to listen, such as 127.0.0.1:8080")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, gateway, address string) error {
	client, err := certes.NewClient(gateway)
	if err != nil {
		return err
	}
	client.On("community.certes.dev/github/1/push", push)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/certes", client.Handler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	// The server answers before the broker is told of it.
	err = client.EnsureSubscriptions(ctx, certes.Subscriptions{
		Events: []certes.Selector{certes.Event("community.certes.dev/github/1/push", &gh.Opts{Repo: "meetly/app"})},
	})
	if err != nil {
		return err
	}
	fmt.Println("subscribed")
	<-ctx.Done()
	// First no more requests, then the handlers that run.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := errors.Join(server.Shutdown(end), client.Close(end)); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func push(_ context.Context, raw *certes.RawEvent) error {
	var event gh.PushEvent
	if err := raw.To(&event); err != nil {
		return err
	}
	fmt.Println(event.GetRef(), "of", event.GetRepository().GetFullName())
	return nil
}
