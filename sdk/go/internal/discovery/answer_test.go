package discovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/hookactions/certes-sdk/go/internal/discovery"
)

type vectorFile struct {
	Answers []struct {
		Why, Body       string
		FoundOnLoopback bool `json:"found_on_loopback"`
		Expect          struct {
			Address, Domain, Reason string
			TLS                     bool
			AsksCertificate         bool `json:"asks_certificate"`
		}
	}
	Loopback []struct {
		Host     string
		Loopback bool
	}
}

func vectors(t *testing.T) vectorFile {
	t.Helper()
	content, err := os.ReadFile("../../../../tests/vectors/discovery.json")
	if err != nil {
		t.Fatal(err)
	}
	var found vectorFile
	if err := json.Unmarshal(content, &found); err != nil || len(found.Answers) == 0 || len(found.Loopback) == 0 {
		t.Fatal("no vectors", err)
	}
	return found
}

func TestAnswersAreJudgedAsTheVectorsSay(t *testing.T) {
	for _, v := range vectors(t).Answers {
		place, refusal := discovery.Judge([]byte(v.Body), v.FoundOnLoopback, discovery.IsLoopback)
		reason := ""
		if refusal != nil {
			reason = map[bool]string{true: "GATEWAY_INSECURE", false: "PROTOCOL_UNSUPPORTED"}[refusal.Insecure]
		}
		want := discovery.Place{Address: v.Expect.Address, TLS: v.Expect.TLS, Domain: v.Expect.Domain, AsksCertificate: v.Expect.AsksCertificate}
		if reason != v.Expect.Reason || place != want {
			t.Errorf("%s: %+v %+v; wanted %+v", v.Why, place, refusal, v.Expect)
		}
	}
}

func TestLoopbackIsToldAsTheVectorsSay(t *testing.T) {
	for _, v := range vectors(t).Loopback {
		if got := discovery.IsLoopback(v.Host); got != v.Loopback {
			t.Errorf("%s is loopback: %v", v.Host, got)
		}
	}
}

type addresses []string

func (a addresses) LookupNetIP(context.Context, string, string) (found []netip.Addr, err error) {
	if a == nil {
		return nil, errors.New("no such host")
	}
	for _, text := range a {
		found = append(found, netip.MustParseAddr(text))
	}
	return found, nil
}

func TestANameIsLoopbackIfAllItsAddressesAre(t *testing.T) {
	for _, v := range []struct {
		addresses addresses
		want      bool
	}{
		{addresses{"127.0.0.1", "::1"}, true},
		{addresses{"::ffff:127.0.0.1"}, true},
		{addresses{"127.0.0.1", "192.0.2.1"}, false},
		{addresses{}, false},
		{nil, false},
	} {
		if got := discovery.ResolvesToLoopback(t.Context(), v.addresses, "broker.test"); got != v.want {
			t.Errorf("a name with the addresses %v is loopback: %v", v.addresses, got)
		}
	}
}
