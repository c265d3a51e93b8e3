package certes

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/discovery"
)

const (
	brokerDomain = "events.example.com"
	// The event type of testMessage, which a broker of that domain has.
	versionType = brokerDomain + "/_/1/_version"
)

// fakeBroker is a broker whose answers a test scripts. What is not scripted accepts everything.
type fakeBroker struct {
	certesv1.UnimplementedEventServiceServer
	certesv1.UnimplementedSubscriptionServiceServer

	whole       func(request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) // Publish
	publish     func(call certesv1.EventService_PublishStreamServer) error
	subscribe   func(request *certesv1.SubscribeRequest, call certesv1.EventService_SubscribeServer) error
	acknowledge func(request *certesv1.AcknowledgeRequest) error
	update      func(request *certesv1.UpdateSubscriptionRequest) (*certesv1.Subscription, error)
	secrets     func(request *certesv1.GetSigningSecretsRequest) ([]*certesv1.SigningSecret, error)

	mu              sync.Mutex
	published       [][]*certesv1.Event // by request
	wholes          []*certesv1.PublishRequest
	acknowledgments []*certesv1.AcknowledgeRequest
	updates         []*certesv1.UpdateSubscriptionRequest
	listener        *bufconn.Listener
	server          *grpc.Server
}

func (b *fakeBroker) PublishStream(call certesv1.EventService_PublishStreamServer) error {
	if b.publish != nil {
		return b.publish(call)
	}
	for {
		request, err := call.Recv()
		if err != nil {
			return nil //nolint:nilerr // the client has gone
		}
		b.took(request)
		if err := call.Send(accepted(request)); err != nil {
			return err
		}
	}
}

func (b *fakeBroker) Publish(_ context.Context, request *certesv1.PublishRequest) (*certesv1.PublishResponse, error) {
	b.mu.Lock()
	b.wholes = append(b.wholes, request)
	b.mu.Unlock()
	if b.whole != nil {
		return b.whole(request)
	}
	return stored(request), nil
}

// stored is the answer to a request of which all events are new.
func stored(request *certesv1.PublishRequest) *certesv1.PublishResponse {
	answer := &certesv1.PublishResponse{}
	for _, event := range request.GetEvents() {
		answer.Results = append(answer.Results, &certesv1.PublishResult{Name: "events/" + event.GetId(), Id: event.GetId()})
	}
	return answer
}

// asked returns the requests of Publish.
func (b *fakeBroker) asked() []*certesv1.PublishRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*certesv1.PublishRequest{}, b.wholes...)
}

// took notes the events of a request.
func (b *fakeBroker) took(request *certesv1.PublishStreamRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published = append(b.published, request.GetEvents())
}

func (b *fakeBroker) requests() [][]*certesv1.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([][]*certesv1.Event{}, b.published...)
}

func accepted(request *certesv1.PublishStreamRequest) *certesv1.PublishStreamResponse {
	answer := &certesv1.PublishStreamResponse_Accepted{Count: int32(len(request.GetEvents()))}
	if request.GetReturnResults() {
		for _, event := range request.GetEvents() {
			answer.Results = append(answer.Results, &certesv1.PublishResult{Name: "events/" + event.GetId(), Id: event.GetId()})
		}
	}
	return &certesv1.PublishStreamResponse{RequestId: request.GetRequestId(), Outcome: &certesv1.PublishStreamResponse_Accepted_{Accepted: answer}}
}

func rejected(request *certesv1.PublishStreamRequest, problem *certesv1.Problem) *certesv1.PublishStreamResponse {
	return &certesv1.PublishStreamResponse{RequestId: request.GetRequestId(), Outcome: &certesv1.PublishStreamResponse_Rejected{Rejected: problem}}
}

func (b *fakeBroker) Subscribe(request *certesv1.SubscribeRequest, call certesv1.EventService_SubscribeServer) error {
	if b.subscribe == nil {
		<-call.Context().Done()
		return nil
	}
	return b.subscribe(request, call)
}

func (b *fakeBroker) Acknowledge(_ context.Context, request *certesv1.AcknowledgeRequest) (*certesv1.AcknowledgeResponse, error) {
	if b.acknowledge != nil {
		if err := b.acknowledge(request); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acknowledgments = append(b.acknowledgments, request)
	return &certesv1.AcknowledgeResponse{}, nil
}

// acked returns the ordinals that were acknowledged, in the order in which they were.
func (b *fakeBroker) acked() []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []int64
	for _, request := range b.acknowledgments {
		for _, r := range request.GetAcked() {
			for ordinal := r.GetFirst(); ordinal <= r.GetLast(); ordinal++ {
				found = append(found, ordinal)
			}
		}
	}
	return found
}

func (b *fakeBroker) acknowledged() []*certesv1.AcknowledgeRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*certesv1.AcknowledgeRequest{}, b.acknowledgments...)
}

func (b *fakeBroker) UpdateSubscription(_ context.Context, request *certesv1.UpdateSubscriptionRequest) (*certesv1.UpdateSubscriptionResponse, error) {
	stored := request.GetSubscription()
	if b.update != nil {
		var err error
		if stored, err = b.update(request); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.updates = append(b.updates, request)
	return &certesv1.UpdateSubscriptionResponse{Subscription: stored}, nil
}

func (b *fakeBroker) GetSigningSecrets(_ context.Context, request *certesv1.GetSigningSecretsRequest) (*certesv1.GetSigningSecretsResponse, error) {
	if b.secrets == nil {
		return &certesv1.GetSigningSecretsResponse{}, nil
	}
	secrets, err := b.secrets(request)
	return &certesv1.GetSigningSecretsResponse{Secrets: secrets}, err
}

// start makes it answer; restart has it answer again after stop, at the same place.
func (b *fakeBroker) start(t *testing.T) {
	t.Helper()
	b.listener = bufconn.Listen(1 << 20)
	b.server = grpc.NewServer(grpc.MaxRecvMsgSize(8<<20), grpc.ForceServerCodecV2(newWireCodec()))
	certesv1.RegisterEventServiceServer(b.server, b)
	certesv1.RegisterSubscriptionServiceServer(b.server, b)
	go func() { _ = b.server.Serve(b.listener) }()
}

func (b *fakeBroker) stop() { b.server.Stop() }

// testClient is a client of a fake broker, and what it logs.
type testClient struct {
	*Client
	log *testLog
	// neverReturns says that a handler of the test does not return, so that Close cannot end well.
	neverReturns bool
}

// newTestClient starts the broker, and closes all at the end of the test.
func newTestClient(t *testing.T, broker *fakeBroker, options ...Option) *testClient {
	t.Helper()
	broker.start(t)
	log := &testLog{}
	options = append([]Option{WithApp("app"), WithLogger(slog.New(slog.NewTextHandler(log, nil)))}, options...)
	client, err := NewClient("events://localhost", options...)
	if err != nil {
		t.Fatal(err)
	}
	client.connector.find = func(context.Context, *settings) (*gatewayFound, error) {
		return &gatewayFound{place: discovery.Place{Address: "passthrough:///fake", Domain: brokerDomain}}, nil
	}
	client.connector.dial = func(_ *settings, found *gatewayFound) (*grpc.ClientConn, error) {
		return grpc.NewClient(found.place.Address, append(channelOptions(),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return broker.listener.DialContext(ctx) }))...)
	}
	made := &testClient{Client: client, log: log}
	t.Cleanup(func() {
		if err := client.Close(context.Background()); err != nil && !made.neverReturns {
			t.Error(err)
		}
		broker.stop()
	})
	return made
}

// ensure ensures a subscription to everything of the test's domain.
func (c *testClient) ensure(t *testing.T) {
	t.Helper()
	err := c.EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event(brokerDomain+"/**", nil)}})
	if err != nil {
		t.Fatal(err)
	}
}

// testLog is the text of a log.
type testLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *testLog) count(text string) int { return strings.Count(l.String(), text) }

// opened and batch are frames of a stream.
func opened(name string) *certesv1.SubscribeResponse {
	return &certesv1.SubscribeResponse{Frame: &certesv1.SubscribeResponse_Opened_{Opened: &certesv1.SubscribeResponse_Opened{Stream: name}}}
}

func batchOf(first int64, deliveries ...*certesv1.Delivery) *certesv1.SubscribeResponse {
	return &certesv1.SubscribeResponse{Frame: &certesv1.SubscribeResponse_Batch_{Batch: &certesv1.SubscribeResponse_Batch{FirstOrdinal: first, Deliveries: deliveries}}}
}

func heartbeat() *certesv1.SubscribeResponse {
	return &certesv1.SubscribeResponse{Frame: &certesv1.SubscribeResponse_Heartbeat_{Heartbeat: &certesv1.SubscribeResponse_Heartbeat{Lag: durationpb.New(0)}}}
}

func closing(reason certesv1.SubscribeResponse_Reason) *certesv1.SubscribeResponse {
	return &certesv1.SubscribeResponse{Frame: &certesv1.SubscribeResponse_Closing_{Closing: &certesv1.SubscribeResponse_Closing{Reason: reason, Message: "so it is"}}}
}

// deliveryOf is a delivery of an event that reports a version, which is a message that the SDK itself brings along.
func deliveryOf(t *testing.T, id string, change ...func(*certesv1.Event)) *certesv1.Delivery {
	t.Helper()
	data, err := anypb.New(&certesv1.Problem{Reason: id})
	if err != nil {
		t.Fatal(err)
	}
	event := &certesv1.Event{
		Id: id, Type: brokerDomain + "/test/1/done", Source: "apps/test",
		Content:  &certesv1.Event_Data{Data: data},
		Audience: &certesv1.Event_Everyone{Everyone: true},
	}
	for _, apply := range change {
		apply(event)
	}
	return &certesv1.Delivery{Name: "events/" + id, Attempt: 1, Event: event}
}

// serve makes a stream that sends frames, and then beats every 15 s until the client goes.
func serve(frames ...*certesv1.SubscribeResponse) func(*certesv1.SubscribeRequest, certesv1.EventService_SubscribeServer) error {
	return func(_ *certesv1.SubscribeRequest, call certesv1.EventService_SubscribeServer) error {
		for _, frame := range frames {
			if err := call.Send(frame); err != nil {
				return err
			}
		}
		return beat(call)
	}
}

func beat(call certesv1.EventService_SubscribeServer) error {
	ticker := time.NewTicker(15 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := call.Send(heartbeat()); err != nil {
				return err
			}
		case <-call.Context().Done():
			return nil
		}
	}
}

func mustMarshal(t *testing.T, message proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}
