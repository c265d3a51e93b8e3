package uris_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/hookactions/certes-sdk/go/internal/uris"
)

func read(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile("../../../../tests/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

type malformed struct {
	Text, Pattern, Reason, Why string
	Position                   int
}

func checkFault(t *testing.T, text string, found *uris.Fault, want malformed) {
	t.Helper()
	if found == nil {
		t.Errorf("%.80q is accepted, although: %s", text, want.Why)
	} else if found.Position != want.Position {
		t.Errorf("%.80q is refused %v; wanted at %d, because: %s", text, found, want.Position, want.Why)
	}
}

func TestEventURIsAreReadAsTheVectorsSay(t *testing.T) {
	var vectors struct {
		EventTypes struct {
			Valid []struct {
				Text, Canonical, Domain, Namespace, Name string
				Version                                  int
				System                                   bool
			}
			Invalid []malformed
		} `json:"event_types"`
	}
	read(t, "uris.json", &vectors)
	for _, v := range vectors.EventTypes.Valid {
		found, fault := uris.ParseEventType(v.Text)
		want := uris.EventType{Domain: v.Domain, Namespace: v.Namespace, Version: v.Version, Name: v.Name}
		if fault != nil || found != want || found.String() != v.Canonical || found.IsSystem() != v.System {
			t.Errorf("%q is read as %+v, %v; wanted %+v", v.Text, found, fault, v)
		}
	}
	for _, v := range vectors.EventTypes.Invalid {
		_, fault := uris.ParseEventType(v.Text)
		checkFault(t, v.Text, fault, v)
	}
}

func TestGatewayURIsAreReadAsTheVectorsSay(t *testing.T) {
	var vectors struct {
		Gateways struct {
			Valid []struct {
				Text, Canonical, Host string
				Port                  int
			}
			Invalid []malformed
		}
	}
	read(t, "uris.json", &vectors)
	for _, v := range vectors.Gateways.Valid {
		found, fault := uris.ParseGateway(v.Text)
		if fault != nil || found != (uris.Gateway{Host: v.Host, Port: v.Port}) || found.String() != v.Canonical {
			t.Errorf("%q is read as %+v, %v; wanted %+v", v.Text, found, fault, v)
		}
	}
	for _, v := range vectors.Gateways.Invalid {
		_, fault := uris.ParseGateway(v.Text)
		checkFault(t, v.Text, fault, v)
	}
}

func TestPatternsMatchAsTheVectorsSay(t *testing.T) {
	var vectors struct {
		Valid []struct {
			Pattern, Canonical string
			Matches, Misses    []string
		}
		Invalid []malformed
	}
	read(t, "patterns.json", &vectors)
	for _, v := range vectors.Valid {
		pattern, fault := uris.ParsePattern(v.Pattern)
		if fault != nil {
			t.Errorf("%.80q is refused: %v", v.Pattern, fault)
			continue
		}
		if v.Canonical != "" && pattern.String() != v.Canonical {
			t.Errorf("%.80q is spelled %.80q; wanted %.80q", v.Pattern, pattern, v.Canonical)
		}
		for _, text := range slices.Concat(v.Matches, v.Misses) {
			eventType, fault := uris.ParseEventType(text)
			if fault != nil {
				t.Fatalf("%q is no event URI: %v", text, fault)
			}
			if got, want := pattern.Matches(eventType.String()), slices.Contains(v.Matches, text); got != want {
				t.Errorf("%.80q matches %.80q: %v", v.Pattern, text, got)
			}
		}
	}
	for _, v := range vectors.Invalid {
		_, fault := uris.ParsePattern(v.Pattern)
		checkFault(t, v.Pattern, fault, v)
		if fault != nil && fault.Unmatchable != (v.Reason == "UNMATCHABLE_PATTERN") {
			t.Errorf("%.80q: unmatchable is %v; wanted %s", v.Pattern, fault.Unmatchable, v.Reason)
		}
	}
}
