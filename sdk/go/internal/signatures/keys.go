package signatures

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

const (
	secretPrefix    = "whsec_"
	publicKeyPrefix = "whpk_"
	leastSecret     = 24
	longestSecret   = 64
)

// Key verifies webhooks: a secret of v1, or a public key of v1a. It does not show itself when it is printed.
type Key struct {
	secret []byte
	public ed25519.PublicKey
}

// Format hides the key, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("key")) }

// ParseKey reads whsec_<base64> of 24 to 64 bytes, or whpk_<base64> of the 32 bytes of an ed25519 public key; the padding may be
// left out. The error does not repeat the text.
func ParseKey(text string) (Key, error) {
	if encoded, ok := strings.CutPrefix(text, secretPrefix); ok {
		secret, err := decode(encoded)
		if err != nil {
			return Key{}, errors.New("is not base64 after whsec_")
		}
		if len(secret) < leastSecret || len(secret) > longestSecret {
			return Key{}, errors.New("has not 24 to 64 bytes after whsec_")
		}
		return Key{secret: secret}, nil
	}
	if encoded, ok := strings.CutPrefix(text, publicKeyPrefix); ok {
		public, err := decode(encoded)
		if err != nil || len(public) != ed25519.PublicKeySize {
			return Key{}, errors.New("is no ed25519 public key in base64 after whpk_")
		}
		return Key{public: public}, nil
	}
	return Key{}, errors.New("begins with neither whsec_ nor whpk_")
}

// decode reads base64 with its padding or without, and nothing else in it.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("line break") // which encoding/base64 would pass over
	}
	return base64.StdEncoding.DecodeString(text + strings.Repeat("=", -len(text)&3))
}
