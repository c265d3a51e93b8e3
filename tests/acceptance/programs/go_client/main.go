package main

import (
	"fmt"
	"log"
	"net/http"

	certes "github.com/hookactions/certes-sdk/go"

	gh "github.com/hookactions/certes-contrib/github"
)

func init() {
	certes.Init("events://events.meetly.com") // Meetly's event gateway, local or hosted by 3rd party
	certes.EnsureSubscriptions(
		certes.Event("community.certes.dev/github/1/push", nil),
		certes.Event("community.certes.dev/github/1/issues", &gh.Opts{
			Repo: "meetly/app",
		}),
		certes.Event("community.certes.dev/github/1/membership", &gh.Opts{
			Org: "meetly",
		}),
		certes.Event("community.certes.dev/github/1/*", &gh.Opts{
			Repo: "meetly/meetly",
		}),
	)
}

func main() {
	certes.On("community.certes.dev/github/1/push", func(raw *certes.RawEvent) error {
		var event gh.PushEvent

		if err := raw.To(&event); err != nil {
			return err
		}

		fmt.Printf("Got Github push event: %#v\n", event)
		return nil
	})

	http.HandleFunc("/", certes.HttpHandler())
	log.Fatal(http.ListenAndServe(":8080", nil))
}
