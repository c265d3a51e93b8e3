// Consumer prints the pushes that GitHub tells of. Events come over a connection that the program opens itself.
//
//	CERTES_APP=meetly go run ./consumer events://localhost
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	gh "github.com/hookactions/certes-contrib/github"
	certes "github.com/hookactions/certes-sdk/go"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("one argument is wanted: the gateway, such as events://localhost")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, gateway string) error {
	client, err := certes.NewClient(gateway)
	if err != nil {
		return err
	}
	client.On("community.certes.dev/github/1/push", push)
	err = client.EnsureSubscriptions(ctx, certes.Subscriptions{
		Events: []certes.Selector{certes.Event("community.certes.dev/github/1/push", &gh.Opts{Repo: "meetly/app"})},
	})
	if err != nil {
		return err
	}
	fmt.Println("subscribed")
	return client.Run(ctx) // until Ctrl-C; then it lets handlers finish
}

func push(_ context.Context, raw *certes.RawEvent) error {
	var event gh.PushEvent
	if err := raw.To(&event); err != nil {
		return err
	}
	fmt.Println(event.GetRef(), "of", event.GetRepository().GetFullName())
	return nil
}
