// Producer tells a subscriber, and then everyone, that meetings were booked. The message is its own, of proto/meetly/v1/meeting_booked.proto,
// which the broker has to know:
//
//	certes schemas push producer/proto
//	CERTES_APP=meetly go run ./producer events://localhost
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	certes "github.com/hookactions/certes-sdk/go"
	pb "github.com/hookactions/certes-sdk/go/examples/producer/pb/meetly/v1"
)

//go:generate protoc -Iproto -I../../../../proto --go_out=pb --go_opt=paths=source_relative --go_opt=Mmeetly/v1/meeting_booked.proto=github.com/hookactions/certes-sdk/go/examples/producer/pb/meetly/v1 --go_opt=Mcertes/v1/options.proto=github.com/hookactions/certes-sdk/go/gen/certes/v1 meetly/v1/meeting_booked.proto

func main() {
	if len(os.Args) != 2 {
		log.Fatal("one argument is wanted: the gateway, such as events://localhost")
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, gateway string) error {
	client, err := certes.NewClient(gateway)
	if err != nil {
		return err
	}
	// For one subscriber, whom we know as org_123. When this returns, the event is stored.
	if err := client.SendOutgoingEvent(ctx, "org_123", &pb.MeetingBooked{Id: "m-1", Room: "blue"}); err != nil {
		return err
	}
	// For everyone, in the order of the room's meetings, under an id that makes it harmless to send it twice.
	receipt, err := client.Publish(ctx, certes.Outgoing{
		Message:     &pb.MeetingBooked{Id: "m-2", Room: "blue"},
		Everyone:    true,
		ID:          "booked-m-2",
		OrderingKey: "blue",
	})
	if err != nil {
		return err
	}
	fmt.Println("stored", receipt.ID)
	return client.Close(ctx)
}
