// Package signatures verifies webhooks as Standard Webhooks says (https://www.standardwebhooks.com, "Signature scheme").
//
// What is signed is <webhook-id>.<webhook-timestamp>.<body>, byte for byte as it came. Signatures are parted by spaces, each with
// its version: v1 is an HMAC-SHA256, v1a an ed25519 signature; others are passed over. Every key is tried, and a comparison takes
// the same time wherever two differ. The timestamp is signed too, so a recorded request is worthless once it is too old.
package signatures

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"

	// Tolerance is how far the timestamp may be from now, in either direction.
	Tolerance = 5 * time.Minute
	// Two while a secret is rotated, and room for versions that are not known here; each costs time.
	maximumSignatures = 8
	longestTimestamp  = 15
)

// Problem says why a webhook was not accepted.
type Problem struct {
	// Kind is stable: HEADER_MISSING, HEADER_MALFORMED, TIMESTAMP_TOO_OLD, TIMESTAMP_TOO_NEW or NO_MATCH.
	Kind string
	// Text says it for a person. It holds no secret, and nothing that was compared with one.
	Text string
}

// Verify proves that a request was sent by somebody who knows one of the keys. It returns nil if so.
//
// header returns all values of a header, by its name in lower case.
func Verify(keys []Key, header func(name string) []string, body []byte, now time.Time) *Problem {
	var id, timestamp, signature string
	for name, into := range map[string]*string{headerID: &id, headerTimestamp: &timestamp, headerSignature: &signature} {
		// A header that came twice is refused: nobody knows which one another reader would have taken.
		switch values := header(name); {
		case len(values) > 1:
			return &Problem{"HEADER_MALFORMED", name + " came more than once"}
		case len(values) == 0 || values[0] == "":
			return &Problem{"HEADER_MISSING", name + " is missing"}
		default:
			*into = values[0]
		}
	}
	if problem := checkTime(timestamp, now); problem != nil {
		return problem
	}
	symmetric, asymmetric := parse(signature)
	switch count := len(symmetric) + len(asymmetric); {
	case count == 0:
		return &Problem{"HEADER_MALFORMED", headerSignature + " has no signature that begins with v1, or v1a,"}
	case count > maximumSignatures:
		return &Problem{"HEADER_MALFORMED", fmt.Sprintf("%s has %d signatures; %d are allowed", headerSignature, count, maximumSignatures)}
	}
	signed := append([]byte(id+"."+timestamp+"."), body...)
	if anyMatches(keys, symmetric, asymmetric, signed) {
		return nil
	}
	return &Problem{"NO_MATCH", "no signature in " + headerSignature + " was made with a known key"}
}

func parse(header string) (symmetric, asymmetric []string) {
	for part := range strings.SplitSeq(header, " ") {
		if encoded, ok := strings.CutPrefix(part, "v1,"); ok {
			symmetric = append(symmetric, encoded)
		} else if encoded, ok := strings.CutPrefix(part, "v1a,"); ok {
			asymmetric = append(asymmetric, encoded)
		}
	}
	return symmetric, asymmetric
}

func anyMatches(keys []Key, symmetric, asymmetric []string, signed []byte) bool {
	found := false
	for _, key := range keys {
		if key.secret != nil {
			mac := hmac.New(sha256.New, key.secret)
			mac.Write(signed)
			genuine := []byte(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
			for _, claimed := range symmetric {
				found = hmac.Equal(genuine, []byte(claimed)) || found
			}
		}
		if key.public == nil {
			continue
		}
		// Nothing here is secret, so nothing need take the same time.
		for _, claimed := range asymmetric {
			signature, err := base64.StdEncoding.DecodeString(claimed)
			found = found || err == nil && ed25519.Verify(key.public, signed, signature)
		}
	}
	return found
}

func checkTime(text string, now time.Time) *Problem {
	seconds, err := strconv.ParseUint(text, 10, 63)
	if err != nil || len(text) > longestTimestamp {
		return &Problem{"HEADER_MALFORMED", headerTimestamp + " is no number of whole seconds"}
	}
	age := float64(now.UnixNano())/1e9 - float64(seconds)
	switch tolerance := Tolerance.Seconds(); {
	case age > tolerance:
		return &Problem{"TIMESTAMP_TOO_OLD", fmt.Sprintf("%s is %.0f s old; %.0f s are allowed", headerTimestamp, age, tolerance)}
	case -age > tolerance:
		text := fmt.Sprintf("%s is %.0f s in the future; %.0f s are allowed", headerTimestamp, math.Abs(age), tolerance)
		return &Problem{"TIMESTAMP_TOO_NEW", text}
	}
	return nil
}
