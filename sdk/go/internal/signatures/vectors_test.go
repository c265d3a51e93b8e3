package signatures

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

type vectorFile struct {
	Secrets struct {
		Valid   []struct{ Text, Hex string }
		Invalid []struct{ Text, Why string }
	}
	Verify []struct {
		Why, Body  string
		BodyBase64 *string `json:"body_base64"`
		Scheme     struct{ Scheme string }
		Secrets    []string
		Headers    [][2]string
		Now        float64
		Problem    *string
	}
}

func vectors(t *testing.T) vectorFile {
	t.Helper()
	content, err := os.ReadFile("../../../../tests/vectors/signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var found vectorFile
	if err := json.Unmarshal(content, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSecretsAreReadAsTheVectorsSay(t *testing.T) {
	secrets := vectors(t).Secrets
	for _, v := range secrets.Valid {
		if key, err := ParseKey(v.Text); err != nil || hex.EncodeToString(key.secret) != v.Hex {
			t.Errorf("%q is not read as %s: %v", v.Text, v.Hex, err)
		}
	}
	for _, v := range secrets.Invalid {
		if _, err := ParseKey(v.Text); err == nil {
			t.Errorf("%q is accepted, although: %s", v.Text, v.Why)
		}
	}
}

func TestWebhooksAreVerifiedAsTheVectorsSay(t *testing.T) {
	ran := 0
	for _, v := range vectors(t).Verify {
		if v.Scheme.Scheme != "standard_webhooks" {
			continue
		}
		ran++
		var keys []Key
		for _, text := range v.Secrets {
			// What verifies nothing is passed over, as an empty secret is; settings refuse it.
			if key, err := ParseKey(text); err == nil {
				keys = append(keys, key)
			}
		}
		header := func(name string) (values []string) {
			for _, pair := range v.Headers {
				if pair[0] == name {
					values = append(values, latin1(pair[1]))
				}
			}
			return values
		}
		body := []byte(v.Body)
		if v.BodyBase64 != nil {
			body, _ = base64.StdEncoding.DecodeString(*v.BodyBase64)
		}
		seconds, fraction := math.Modf(v.Now)
		problem := Verify(keys, header, body, time.Unix(int64(seconds), int64(fraction*1e9)))
		got, want := "accepted", "accepted"
		if problem != nil {
			got = problem.Kind
		}
		if v.Problem != nil {
			want = *v.Problem
		}
		if got != want {
			t.Errorf("%s: %s (%v); wanted %s", v.Why, got, problem, want)
		}
	}
	if ran < 50 {
		t.Errorf("only %d vectors ran", ran)
	}
}

// latin1 returns the bytes that a header came as: its characters are of one byte each, and others no sender can send.
func latin1(text string) string {
	var raw []byte
	for _, r := range text {
		if r > 0xff {
			r = '?'
		}
		raw = append(raw, byte(r))
	}
	return string(raw)
}

func TestKeysDoNotShowThemselves(t *testing.T) {
	key, err := ParseKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	bytes := fmt.Sprint(key.secret)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		shown := fmt.Sprintf(format, []any{key, &key})
		if strings.Contains(shown, bytes[1:10]) || strings.Contains(shown, "31f290") {
			t.Errorf("%s shows %s", format, shown)
		}
	}
}
