package certes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

type webhookVector struct {
	Why, Method string
	Headers     [][2]string
	Body        string
	BodyBase64  *string `json:"body_base64"`
	Handler     string
	Status      int
	Reason      *string
	Answered    map[string]string `json:"answer_headers"`
	Event       *struct {
		ID, Type, Source, Subject, Subscriber, Traceparent, Tracestate string
		Time                                                           *time.Time
		Everyone                                                       bool
		OrderingKey                                                    string `json:"ordering_key"`
		Attributes                                                     map[string]string
		ContentType                                                    string `json:"content_type"`
		Data                                                           json.RawMessage
		BytesBase64                                                    string `json:"bytes_base64"`
	}
}

func TestWebhooksAreAnsweredAsTheVectorsSay(t *testing.T) {
	var vectors struct {
		Keys     []string
		Now      int64
		Requests []webhookVector
	}
	readVectors(t, "webhooks", &vectors)
	if len(vectors.Requests) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.Requests {
		client, err := NewClient("events://events.example.com", WithWebhookKeys(vectors.Keys...), WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			t.Fatal(err)
		}
		client.keyring.now = func() time.Time { return time.Unix(vectors.Now, 0) }
		var got *RawEvent
		if v.Handler != "none" {
			handler := func(_ context.Context, raw *RawEvent) error {
				got = raw
				if v.Handler == "raises" {
					return errors.New("no")
				}
				return nil
			}
			client.On("community.certes.dev/**", handler)
			client.On("d.example/**", handler)
		}
		answer := httptest.NewRecorder()
		client.Handler().ServeHTTP(answer, v.request())
		v.check(t, answer.Result(), got)
		if err := client.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func (v webhookVector) request() *http.Request {
	body := []byte(v.Body)
	if v.BodyBase64 != nil {
		body, _ = base64.StdEncoding.DecodeString(*v.BodyBase64)
	}
	request := httptest.NewRequest(v.Method, "/", strings.NewReader(string(body)))
	for _, header := range v.Headers {
		request.Header.Add(header[0], header[1])
	}
	return request
}

func (v webhookVector) check(t *testing.T, answer *http.Response, got *RawEvent) {
	t.Helper()
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != v.Status {
		t.Errorf("%s: %d %s; wanted %d", v.Why, answer.StatusCode, body, v.Status)
		return
	}
	for name, value := range v.Answered {
		if answer.Header.Get(name) != value {
			t.Errorf("%s: %s is %q; wanted %q", v.Why, name, answer.Header.Get(name), value)
		}
	}
	if v.Reason != nil {
		var refusal struct{ Reason, Message string }
		if err := json.Unmarshal(body, &refusal); err != nil || refusal.Reason != *v.Reason || refusal.Message == "" {
			t.Errorf("%s: %s; wanted %s", v.Why, body, *v.Reason)
		}
	}
	if (got != nil) != (v.Event != nil) {
		t.Errorf("%s: the handler gets %+v; wanted %+v", v.Why, got, v.Event)
		return
	}
	if got == nil {
		return
	}
	want := v.Event
	same := got.ID == want.ID && got.Type == want.Type && got.Source == want.Source && got.Subject == want.Subject &&
		got.Subscriber == want.Subscriber && got.Everyone == want.Everyone && got.OrderingKey == want.OrderingKey &&
		got.Traceparent == want.Traceparent && got.Tracestate == want.Tracestate && got.ContentType == want.ContentType &&
		maps.Equal(got.Attributes, want.Attributes) && (want.Time == nil && got.Time.IsZero() || want.Time != nil && got.Time.Equal(*want.Time))
	if !same {
		t.Errorf("%s: the handler gets %+v; wanted %+v", v.Why, got, want)
	}
	if string(want.Data) == "null" {
		if base64.StdEncoding.EncodeToString(got.Data) != want.BytesBase64 || !got.Untyped {
			t.Errorf("%s: the handler gets the bytes %q; wanted %s", v.Why, got.Data, want.BytesBase64)
		}
		return
	}
	var gotData, wantData any
	if err := errors.Join(json.Unmarshal(got.Data, &gotData), json.Unmarshal(want.Data, &wantData)); err != nil || !reflect.DeepEqual(gotData, wantData) || got.Untyped {
		t.Errorf("%s: the handler gets the data %s; wanted %s, %v", v.Why, got.Data, want.Data, err)
	}
}
