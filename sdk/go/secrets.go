package certes

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/signatures"
)

const (
	secretsKept    = 5 * time.Minute
	secretsPause   = 10 * time.Second
	secretsTimeout = 5 * time.Second
)

// keyring keeps the keys that verify webhooks. It is safe for concurrent use.
type keyring struct {
	own []signatures.Key
	// fetch asks the broker for the secrets of the application's subscriptions.
	fetch func(context.Context) ([]signatures.Key, error)
	now   func() time.Time

	turn chan struct{} // holds one token: whoever has it may fetch

	mu      sync.Mutex
	fetched []signatures.Key
	at      time.Time // when they were fetched
	tried   time.Time // when that was tried last
	failure error     // of the last try
}

func newKeyring(own []signatures.Key, fetch func(context.Context) ([]signatures.Key, error)) *keyring {
	k := &keyring{own: own, fetch: fetch, now: time.Now, turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	return k
}

// verify proves that a webhook was sent by the broker. The error is SIGNATURE_INVALID or SECRETS_UNAVAILABLE.
//
// Where no key fits, the secrets are fetched once more, but not within 10 s of the last time, so that strangers cannot make it ask.
func (k *keyring) verify(ctx context.Context, header http.Header, body []byte) *Error {
	values := func(name string) []string { return header.Values(name) }
	keys := k.keys()
	problem := signatures.Verify(keys, values, body, k.now())
	if problem == nil {
		return nil
	}
	if problem.Kind == "NO_MATCH" {
		if err := k.refresh(ctx); err != nil {
			return newError(codes.Unavailable, ReasonSecretsUnavailable,
				"the webhook cannot be verified, since its secrets could not be fetched: %v", err).because(err)
		}
		if problem = signatures.Verify(k.keys(), values, body, k.now()); problem == nil {
			return nil
		}
	}
	return newError(codes.Unauthenticated, ReasonSignatureInvalid,
		"the webhook's signature is not accepted: %s", problem.Text).with("problem", problem.Kind)
}

// keys returns those that are known and not too old.
func (k *keyring) keys() []signatures.Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now().Sub(k.at) >= secretsKept {
		return k.own
	}
	return append(append([]signatures.Key{}, k.own...), k.fetched...)
}

// refresh fetches the secrets, unless that was tried within 10 s. It returns why the last try failed, if it did.
func (k *keyring) refresh(ctx context.Context) error {
	select {
	case <-k.turn:
		defer func() { k.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	now := k.now()
	k.mu.Lock()
	recent := !k.tried.IsZero() && now.Sub(k.tried) < secretsPause
	failure := k.failure
	k.mu.Unlock()
	if recent {
		return failure
	}
	// Also where the sender goes away meanwhile: a stranger who does that could make it ask at will.
	fetched, err := k.fetch(context.WithoutCancel(ctx))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried, k.failure = now, err
	if err == nil {
		k.fetched, k.at = fetched, now
	}
	return err
}

// fetchSecrets returns the signing secrets of the application's subscriptions. One that does not exist has none.
func (c *Client) fetchSecrets(ctx context.Context) ([]signatures.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, secretsTimeout)
	defer cancel()
	var keys []signatures.Key
	for _, name := range c.consumer.names() {
		connection, err := c.connector.connect(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := connection.subs.GetSigningSecrets(ctx, &certesv1.GetSigningSecretsRequest{Name: name})
		if err != nil {
			switch refusal := asError(err); refusal.Reason {
			case reasonSubscriptionNotFound, reasonSubscriptionDeleted, reasonHasNoWebhook:
				continue
			default:
				return nil, refusal
			}
		}
		for _, secret := range answer.GetSecrets() {
			key, err := signatures.ParseKey(secret.GetSecret())
			if err != nil {
				return nil, errors.New("the broker sent a secret that is none")
			}
			keys = append(keys, key)
		}
	}
	return keys, nil
}
