package certes

import (
	"context"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

func offline(t testing.TB, options ...Option) *Client {
	t.Helper()
	client, err := NewClient("events://events.example.com", append([]Option{WithApp("app")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestRequestsAreWhatTheGeneratedCodeWouldMake(t *testing.T) {
	client := offline(t)
	when := time.Date(2026, 11, 27, 5, 35, 27, 123456789, time.UTC)
	message := done(t, "grüße")
	empty := done(t, "")
	events := map[string]struct {
		out  Outgoing
		want *certesv1.Event
	}{
		"the least": {
			Outgoing{Message: empty, Everyone: true},
			&certesv1.Event{Source: "apps/app", Audience: &certesv1.Event_Everyone{Everyone: true}},
		},
		"everything": {
			Outgoing{
				Message: message, Subscriber: "org_1", Subject: "sub", Time: when, OrderingKey: "key", Source: "//x",
				Attributes: map[string]string{"a": "1", "b": "", "c": strings.Repeat("x", 1000)}, Traceparent: "00-x", Tracestate: "y=z",
			},
			&certesv1.Event{
				Source: "//x", Subject: "sub", Time: timestamppb.New(when), Audience: &certesv1.Event_Subscriber{Subscriber: "org_1"}, OrderingKey: "key",
				Attributes: map[string]string{"a": "1", "b": "", "c": strings.Repeat("x", 1000)}, Traceparent: "00-x", Tracestate: "y=z",
			},
		},
		"before 1970": {
			Outgoing{Message: message, Everyone: true, Time: time.Unix(-5, 7)},
			&certesv1.Event{Source: "apps/app", Time: timestamppb.New(time.Unix(-5, 7)), Audience: &certesv1.Event_Everyone{Everyone: true}},
		},
		"large": {
			Outgoing{Message: done(t, strings.Repeat("x", 3<<20)), Everyone: true},
			&certesv1.Event{Source: "apps/app", Audience: &certesv1.Event_Everyone{Everyone: true}},
		},
	}
	for why, v := range events {
		r := &request{id: "r1", tries: 1}
		want := &certesv1.PublishStreamRequest{RequestId: "r1"}
		for range 3 {
			buffer, begin, err := client.encode(t.Context(), &v.out, "id", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.events = append(r.events, &event{wire: buffer[begin:]})
			data, err := anypb.New(v.out.Message)
			if err != nil {
				t.Fatal(err)
			}
			v.want.Id, v.want.Type, v.want.Content = "id", doneType, &certesv1.Event_Data{Data: data}
			want.Events = append(want.Events, v.want)
		}
		var got certesv1.PublishStreamRequest
		if err := proto.Unmarshal(encodeRequest(r).buffer.ReadOnlyData(), &got); err != nil || !proto.Equal(&got, want) {
			t.Errorf("%s: %v, %.300v; wanted %.300v", why, err, &got, want)
		}
	}
}

// generatedDelivery reads a delivery as the generated code does.
func generatedDelivery(d *certesv1.Delivery) *RawEvent {
	e := d.GetEvent()
	raw := &RawEvent{
		ID: e.GetId(), Type: e.GetType(), Source: e.GetSource(), Subject: e.GetSubject(), Subscriber: e.GetSubscriber(), Everyone: e.GetEveryone(),
		OrderingKey: e.GetOrderingKey(), Attributes: e.GetAttributes(), Traceparent: e.GetTraceparent(), Tracestate: e.GetTracestate(),
		Attempt: int(d.GetAttempt()), Name: d.GetName(), CorrelationIDs: d.GetCorrelationIds(),
	}
	if e.GetTime() != nil {
		raw.Time = e.GetTime().AsTime()
	}
	if d.GetAcceptTime() != nil {
		raw.AcceptTime = d.GetAcceptTime().AsTime()
	}
	switch {
	case e.GetData() != nil:
		raw.ContentType, raw.Data = contentProtobuf, e.GetData().GetValue()
		raw.DataType = e.GetData().GetTypeUrl()[strings.LastIndex(e.GetData().GetTypeUrl(), "/")+1:]
	case e.GetRaw() != nil:
		raw.ContentType, raw.Data, raw.Untyped = e.GetRaw().GetContentType(), e.GetRaw().GetBytes(), true
	}
	return raw
}

func someDeliveries() []*certesv1.Delivery {
	when := timestamppb.New(time.Date(2026, 11, 27, 5, 35, 27, 123456789, time.UTC))
	typed := &certesv1.Event_Data{Data: &anypb.Any{TypeUrl: "type.googleapis.com/" + doneMessage, Value: []byte("\x0a\x03abc")}}
	return []*certesv1.Delivery{
		{},
		{Event: &certesv1.Event{Id: "1", Type: doneType, Source: "s", Content: typed, Audience: &certesv1.Event_Everyone{Everyone: true}}},
		{
			Name: "events/x", Attempt: 3, AcceptTime: when, CorrelationIds: []string{"gw.1", "broker.2"},
			Event: &certesv1.Event{
				Id: "größe", Type: doneType, Source: "s", Subject: "sub", Time: when, Content: typed, Audience: &certesv1.Event_Subscriber{Subscriber: "org_1"},
				OrderingKey: "k", Attributes: map[string]string{"a": "1", "": "", "b": ""}, Traceparent: "tp", Tracestate: "ts",
			},
		},
		{CorrelationIds: []string{"1", "2", "3", "4", "5", "6"}, Event: &certesv1.Event{Id: "far"}},
		{Event: &certesv1.Event{Id: "raw", Content: &certesv1.Event_Raw{Raw: &certesv1.RawContent{ContentType: "text/plain", Bytes: []byte("hello")}}}},
		{Event: &certesv1.Event{Id: "bare", Content: &certesv1.Event_Data{Data: &anypb.Any{TypeUrl: doneMessage}}}},
	}
}

func TestDeliveriesAreReadAsTheGeneratedCodeReadsThem(t *testing.T) {
	for _, d := range someDeliveries() {
		got, err := readDelivery(mustMarshal(t, d))
		if err != nil {
			t.Fatal(err)
		}
		want := generatedDelivery(d)
		if len(got.Data) == 0 && len(want.Data) == 0 {
			got.Data = want.Data
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v is read as %+v; wanted %+v", d, got, want)
		}
	}
}

func TestUnknownFieldsOfADeliveryArePassedOver(t *testing.T) {
	d := someDeliveries()[2]
	wire := mustMarshal(t, d)
	// 100: a varint, 101: 64 bits, 102: bytes, 103: 32 bits, 104: a group.
	later := []byte("\xa0\x06\x01\xa9\x06abcdefgh\xb2\x06\x02hi\xbd\x06abcd\xc3\x06\x08\x01\xc4\x06")
	got, err := readDelivery(append(wire, later...))
	if err != nil || got.ID != d.GetEvent().GetId() {
		t.Errorf("it is read as %+v, %v", got, err)
	}
}

func TestADeliveryThatIsCutOffOrGarbledIsNeverTheEndOfTheProgram(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for _, d := range someDeliveries()[1:] {
		whole := mustMarshal(t, d)
		for range 20_000 {
			wire := append([]byte{}, whole...)
			for range 1 + chance.IntN(3) {
				wire[chance.IntN(len(wire))] = byte(chance.IntN(256))
			}
			got, err := readDelivery(wire[:chance.IntN(len(wire)+1)])
			if err != nil {
				refused++
				continue
			}
			_ = got.To(done(t, "")) // may fail, as long as it returns
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

func TestTheRawEventKeepsNothingOfTheBatchButItsData(t *testing.T) {
	wire := mustMarshal(t, someDeliveries()[2])
	got, err := readDelivery(wire)
	if err != nil {
		t.Fatal(err)
	}
	for i := range wire {
		wire[i] = 'x'
	}
	if got.ID != "größe" || got.CorrelationIDs[1] != "broker.2" || got.Attributes["a"] != "1" || string(got.Data) != "xxxxx" {
		t.Errorf("after the batch was overwritten it is %+v", got)
	}
}

func FuzzDelivery(f *testing.F) {
	for _, d := range someDeliveries() {
		wire, _ := proto.Marshal(d)
		f.Add(wire)
	}
	f.Fuzz(func(_ *testing.T, wire []byte) { _, _ = readDelivery(wire) })
}

func TestPositionsOfTheStreamsAreThoseOfTheService(t *testing.T) {
	streams := certesv1.EventService_ServiceDesc.Streams
	if streams[publishStream].StreamName != "PublishStream" || streams[subscribeStream].StreamName != "Subscribe" {
		t.Errorf("the service's streams are %v", streams)
	}
}

func BenchmarkReadDelivery(b *testing.B) {
	d := someDeliveries()[2]
	d.Event.GetData().Value = make([]byte, 1024)
	wire, _ := proto.Marshal(d)
	b.Run("by hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = readDelivery(wire)
		}
	})
	b.Run("generated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var d certesv1.Delivery
			_ = proto.Unmarshal(wire, &d)
			_ = generatedDelivery(&d)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	client := offline(b)
	out := Outgoing{Message: &certesv1.VersionUpdate{}, Everyone: true}
	client.connector.current = &connection{}
	client.connector.current.place.Domain = brokerDomain
	var buffer []byte
	b.ReportAllocs()
	for b.Loop() {
		buffer, _, _ = client.encode(context.Background(), &out, "01900000-0000-7000-8000-000000000000", buffer)
	}
}
