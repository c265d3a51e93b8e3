// Package certes publishes and receives events by a Certes broker.
//
// A consumer ensures its subscription and registers handlers. Events come by a stream, or, where a callback URL is set, by webhooks to
// [HttpHandler]; the handlers are the same:
//
//	certes.Init("events://events.meetly.com")
//	certes.EnsureSubscriptions(certes.Event("community.certes.dev/github/1/push", nil))
//	certes.On("community.certes.dev/github/1/push", func(raw *certes.RawEvent) error {
//		var event github.PushEvent
//		if err := raw.To(&event); err != nil {
//			return err
//		}
//		...
//	})
//	certes.Run(ctx)
//
// A producer sends messages whose .proto says what event they are:
//
//	certes.SendOutgoingEvent("org_123", &pb.PushEvent{Ref: "refs/heads/main"})
//
// Both return only when it is durable what they did. Calls coalesce by themselves: what has queued up while the last request was
// written goes out as the next one, so many goroutines that publish one event each are as fast as batches, and a lone event waits for
// nothing.
//
// The functions of the package work on one default client; [NewClient] makes others. Everything that fails is an [*Error] with a stable
// reason. Delivery is at least once: a handler may see an event again, under the same RawEvent.ID.
package certes
