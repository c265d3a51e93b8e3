package certes_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os/signal"
	"syscall"

	certes "github.com/hookactions/certes-sdk/go"
	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// A consumer, fed by a stream. CERTES_APP names it.
func Example() {
	certes.Init("events://events.meetly.com")
	certes.EnsureSubscriptions(
		certes.Event("community.certes.dev/github/1/push", nil),
		certes.Event("community.certes.dev/github/1/issues", certes.OptionsMap{"repo": "meetly/app"}),
	)
	certes.On("community.certes.dev/github/1/*", func(raw *certes.RawEvent) error {
		fmt.Println(raw.Type, raw.ID)
		return nil
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := certes.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// A consumer, fed by webhooks: CERTES_CALLBACK_URL says where the broker finds the server.
func ExampleHttpHandler() {
	certes.Init("events://events.meetly.com")
	certes.EnsureSubscriptions(certes.Event("community.certes.dev/github/1/push", nil))
	certes.On("community.certes.dev/github/1/push", func(raw *certes.RawEvent) error {
		fmt.Println(raw.Type, raw.ID)
		return nil
	})
	http.HandleFunc("/certes", certes.HttpHandler())
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// A handler is a function, and a RawEvent can be made by hand: so a handler is tested without a broker.
func ExampleRawEvent_To() {
	handle := func(raw *certes.RawEvent) error {
		var update certesv1.VersionUpdate
		if err := raw.To(&update); err != nil {
			return err
		}
		fmt.Println("compatible:", update.GetBackwardsCompatible())
		return nil
	}
	err := handle(&certes.RawEvent{
		Type:        "events.meetly.com/_/1/_version",
		ContentType: "application/json",
		Data:        []byte(`{"backwards_compatible": true}`),
	})
	fmt.Println(err)
	err = handle(&certes.RawEvent{Type: "events.meetly.com/_/1/another"})
	fmt.Println(certes.ReasonOf(err))
	// Output:
	// compatible: true
	// <nil>
	// DATA_TYPE_MISMATCH
}

// Programs switch on the reason of an error.
func ExampleError() {
	client, err := certes.NewClient("events://events.meetly.com", certes.WithApp("hub"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close(context.Background()) }()
	err = client.SendOutgoingEvent(context.Background(), "", &certesv1.VersionUpdate{})
	var refused *certes.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Reason, refused.Retryable)
		fmt.Println(refused.Hint)
	}
	_, err = certes.NewClient("https://events.meetly.com")
	fmt.Println(err)
	// Output:
	// AUDIENCE_MISSING false
	// Set Subscriber, or Everyone.
	// MALFORMED_URI: gateway URI "https://events.meetly.com" is malformed, at character 0: a gateway URI begins with "events://"
}

// Events that belong together: all of them are stored, or none.
func ExampleClient_PublishAll() {
	ctx := context.Background()
	client, err := certes.NewClient("events://events.meetly.com", certes.WithApp("hub"))
	if err != nil {
		log.Fatal(err)
	}
	all := []certes.Outgoing{
		{Message: &certesv1.VersionUpdate{}, Subscriber: "org_123"},
		{Message: &certesv1.VersionUpdate{}, Everyone: true, ID: "u-1"},
	}
	receipts, err := client.PublishAll(ctx, all)
	if err != nil {
		log.Fatal(err)
	}
	for _, receipt := range receipts {
		fmt.Println(receipt.ID, receipt.Name, receipt.Duplicate)
	}
}
