package certes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// readVectors reads tests/vectors/{name}.json.
func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile("../../tests/vectors/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

type errorVector struct {
	Code, Reason, Message, Text, Hint string
	Metadata                          map[string]string
	Violations                        []Violation
	Retryable                         bool
	RetryAfter                        *float64 `json:"retry_after"`
}

func checkError(t *testing.T, why string, got *Error, want errorVector) {
	t.Helper()
	after := 0.0
	if want.RetryAfter != nil {
		after = *want.RetryAfter
	}
	same := codeName(got.Code) == want.Code && got.Reason == want.Reason && got.Message == want.Message && got.Error() == want.Text &&
		got.Hint == want.Hint && maps.Equal(got.Metadata, want.Metadata) && slices.Equal(got.Violations, want.Violations) &&
		got.Retryable == want.Retryable && got.RetryAfter == time.Duration(after*float64(time.Second))
	if !same {
		t.Errorf("%s: %#v; wanted %+v", why, got, want)
	}
}

func TestErrorsAreReadAsTheVectorsSay(t *testing.T) {
	var vectors struct {
		Refusals []struct {
			Why, Status, Problem string
			Expect               errorVector
		}
		Plain []struct {
			Code, Message string
			Number        codes.Code
			Expect        errorVector
		}
	}
	readVectors(t, "errors", &vectors)
	if len(vectors.Refusals) == 0 || len(vectors.Plain) == 0 {
		t.Fatal("no vectors")
	}
	decode := func(text string, into proto.Message) {
		wire, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			err = proto.Unmarshal(wire, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range vectors.Refusals {
		var wireStatus spb.Status
		decode(v.Status, &wireStatus)
		checkError(t, v.Why+", a status", asError(status.FromProto(&wireStatus).Err()), v.Expect)
		var problem certesv1.Problem
		decode(v.Problem, &problem)
		checkError(t, v.Why+", a problem", errorOfProblem(&problem), v.Expect)
	}
	for _, v := range vectors.Plain {
		checkError(t, v.Code, asError(status.Error(v.Number, v.Message)), v.Expect)
	}
}

func TestEventTypesOfMessagesAreThoseOfTheVectors(t *testing.T) {
	var vectors struct {
		Types []struct {
			Why, Package, Message string
			BrokerDomain          string `json:"broker_domain"`
			Schema                *struct {
				Domain, Namespace *string
				Version           *uint32
			}
			Event  *struct{ Name *string }
			Expect json.RawMessage
		}
	}
	readVectors(t, "event_types", &vectors)
	if len(vectors.Types) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.Types {
		var schema *certesv1.SchemaBinding
		var event *certesv1.EventBinding
		if v.Schema != nil {
			schema = &certesv1.SchemaBinding{Domain: v.Schema.Domain, Namespace: v.Schema.Namespace, Version: v.Schema.Version}
		}
		if v.Event != nil {
			event = &certesv1.EventBinding{Name: v.Event.Name}
		}
		got, want := "", ""
		bound, err := bindingOf(messageType(t, v.Package, v.Message, schema, event).Descriptor())
		if err == nil {
			got, err = bound.eventType(v.BrokerDomain)
		}
		if err != nil {
			got = ReasonOf(err)
		}
		if json.Unmarshal(v.Expect, &want) != nil {
			var refusal struct{ Reason string }
			if err := json.Unmarshal(v.Expect, &refusal); err != nil {
				t.Fatal(err)
			}
			want = refusal.Reason
		}
		if got != want {
			t.Errorf("%s: %s (%v); wanted %s", v.Why, got, err, want)
		}
	}
}

func TestTheHandlersThatRunAreThoseOfTheVectors(t *testing.T) {
	var vectors struct {
		Handlers []struct {
			Why      string
			Patterns []string
			Events   []struct {
				Type string
				Run  []int
			}
		}
	}
	readVectors(t, "handlers", &vectors)
	if len(vectors.Handlers) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.Handlers {
		var registry handlerRegistry
		ran := []int{}
		for i, text := range v.Patterns {
			pattern, err := parsePattern(text)
			if err != nil {
				t.Fatal(err)
			}
			registry.register(pattern, func(context.Context, *RawEvent) error {
				ran = append(ran, i)
				return nil
			})
		}
		for _, event := range v.Events {
			for range 2 { // the second time from memory
				ran = ran[:0]
				failure := registry.handle(t.Context(), &RawEvent{Type: event.Type})
				if !slices.Equal(ran, event.Run) || (failure != nil) != (len(event.Run) == 0) {
					t.Errorf("%s: for %s run %v (%v); wanted %v", v.Why, event.Type, ran, failure, event.Run)
				}
			}
		}
	}
}

func TestTheFirstHandlerThatFailsEndsTheEventsHandling(t *testing.T) {
	var registry handlerRegistry
	ran := []int{}
	for i := range 4 {
		register(&registry, doneType, func(context.Context, *RawEvent) error {
			if ran = append(ran, i); i == 2 {
				return errors.New("no")
			}
			return nil
		})
	}
	if failure := registry.handle(t.Context(), &RawEvent{Type: doneType}); !slices.Equal(ran, []int{0, 1, 2}) || failure == nil || failure.told() != "no" {
		t.Errorf("run %v, %v", ran, failure)
	}
}

type settingsVector struct {
	Why       string
	Arguments struct {
		URI, Token, App, Subscriber, Source, Resolve string
		CallbackURL                                  string `json:"callback_url"`
		CAFile                                       string `json:"ca_file"`
		Certificate                                  string
		CertificateKey                               string `json:"certificate_key"`
		Generation                                   *int64
		WebhookKeys                                  []string `json:"webhook_keys"`
		Concurrency                                  *int
		MaxOutstanding                               *int `json:"max_outstanding"`
	}
	Environment map[string]string
	Expect      struct {
		Reason, Field                       string
		Position                            *int
		URI, Token, App, Subscriber, Source string
		Gateway                             struct {
			Host string
			Port int
		}
		CallbackURL    string `json:"callback_url"`
		CAFile         string `json:"ca_file"`
		Certificate    string
		CertificateKey string `json:"certificate_key"`
		Generation     *int64
		WebhookKeys    []string `json:"webhook_keys"`
	}
}

func TestSettingsAreReadAsTheVectorsSay(t *testing.T) {
	var vectors struct {
		Settings []settingsVector
		Names    []struct{ Subscriber, App, Name, Subscription string }
	}
	readVectors(t, "settings", &vectors)
	if len(vectors.Settings) == 0 || len(vectors.Names) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.Settings {
		a := v.Arguments
		given := arguments{
			token: a.Token, app: a.App, callbackURL: a.CallbackURL, subscriber: a.Subscriber, source: a.Source, caFile: a.CAFile,
			certificate: a.Certificate, certificateKey: a.CertificateKey,
			resolve: a.Resolve, generation: a.Generation, webhookKeys: a.WebhookKeys, concurrency: a.Concurrency, maxOutstanding: a.MaxOutstanding,
		}
		got, err := readSettings(a.URI, given, func(name string) string { return v.Environment[name] })
		if v.Expect.Reason != "" {
			checkRefusedSettings(t, v, err)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.Why, err)
			continue
		}
		want := v.Expect
		same := got.uri == want.URI && got.gateway.Host == want.Gateway.Host && got.gateway.Port == want.Gateway.Port && got.token == want.Token &&
			got.app == want.App && got.callbackURL == want.CallbackURL && got.subscriber == want.Subscriber && got.source == want.Source &&
			got.caFile == want.CAFile && got.certificate == want.Certificate && got.certificateKey == want.CertificateKey && len(got.webhookKeys) == len(want.WebhookKeys) &&
			(got.generation == nil) == (want.Generation == nil) && (got.generation == nil || *got.generation == *want.Generation)
		if !same {
			t.Errorf("%s: %+v; wanted %+v", v.Why, *got, want)
		}
	}
	for _, v := range vectors.Names {
		if got, err := (&settings{subscriber: v.Subscriber, app: v.App}).subscription(v.Name); err != nil || got != v.Subscription {
			t.Errorf("the subscription %q of %s is %s, %v; wanted %s", v.Name, v.App, got, err, v.Subscription)
		}
	}
}

func checkRefusedSettings(t *testing.T, v settingsVector, err error) {
	t.Helper()
	if ReasonOf(err) != v.Expect.Reason {
		t.Errorf("%s: %v; wanted %s", v.Why, err, v.Expect.Reason)
		return
	}
	refusal := asError(err)
	if v.Expect.Position != nil && refusal.Metadata["position"] != strconv.Itoa(*v.Expect.Position) {
		t.Errorf("%s: it is refused at %s; wanted at %d", v.Why, refusal.Metadata["position"], *v.Expect.Position)
	}
	if refusal.Metadata["field"] != v.Expect.Field {
		t.Errorf("%s: the field %q is refused; wanted %q", v.Why, refusal.Metadata["field"], v.Expect.Field)
	}
	secrets := append(strings.Fields(v.Environment["CERTES_WEBHOOK_KEYS"]), v.Arguments.WebhookKeys...)
	for _, secret := range append(secrets, v.Arguments.Token, v.Environment["CERTES_TOKEN"]) {
		if secret != "" && strings.Contains(refusal.Error(), secret) {
			t.Errorf("%s: the refusal shows a secret: %v", v.Why, err)
		}
	}
}
