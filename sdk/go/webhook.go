package certes

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
)

const maximumWebhookBytes = 16 << 20

// Handler returns what takes the broker's webhooks, to be mounted at the callback URL. It verifies each, runs its handlers, and answers
// 204 when they have returned.
//
// Any other answer has the broker try again: 400 for what is verified and no event, 401 for a signature that is not accepted, 405 where it
// is neither a POST nor the broker's question for consent, 500 where a handler failed or there is none, and 503 where the secrets could not be fetched or the client is closed. Its
// body is {"reason": …, "message": …}.
func (c *Client) Handler() http.Handler {
	return http.HandlerFunc(c.serveWebhook)
}

func (c *Client) serveWebhook(w http.ResponseWriter, r *http.Request) {
	origin := ""
	if r.Method == http.MethodOptions {
		origin = r.Header.Get("Webhook-Request-Origin")
	}
	if r.Method != http.MethodPost && origin == "" {
		w.Header().Set("Allow", http.MethodPost)
		answerError(w, http.StatusMethodNotAllowed, newError(codes.InvalidArgument, "METHOD_NOT_ALLOWED", "webhooks are POSTed"))
		return
	}
	if c.isClosing() {
		answerError(w, http.StatusServiceUnavailable, clientClosed())
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maximumWebhookBytes+1))
	if err != nil {
		answerError(w, http.StatusBadRequest, newError(codes.InvalidArgument, ReasonPayloadMalformed,
			"the webhook did not come to its end"))
		return
	}
	if len(body) > maximumWebhookBytes {
		answerError(w, http.StatusBadRequest, newError(codes.InvalidArgument, ReasonPayloadTooLarge,
			"the webhook is larger than %d bytes", maximumWebhookBytes))
		return
	}
	if refusal := c.keyring.verify(r.Context(), r.Header, body); refusal != nil {
		status := http.StatusUnauthorized
		if refusal.Reason == ReasonSecretsUnavailable {
			status = http.StatusServiceUnavailable
			c.warn("a webhook cannot be verified", refusal)
			// Anybody may have sent it, and where the broker is and why it does not answer is nothing for strangers.
			refusal = newError(refusal.Code, refusal.Reason, "the webhook cannot be verified now")
		}
		answerError(w, status, refusal)
		return
	}
	if origin != "" {
		// Who signs as the broker does is asked by nobody else whether it may send.
		w.Header().Set("Webhook-Allowed-Origin", origin)
		w.Header().Set("Webhook-Allowed-Rate", "*")
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	raw, malformed := readCloudEvent(r.Header, body)
	if malformed != nil {
		c.warn("a webhook is no event", malformed)
		answerError(w, http.StatusBadRequest, malformed)
		return
	}
	c.handleWebhook(w, r, raw)
}

func (c *Client) handleWebhook(w http.ResponseWriter, r *http.Request, raw *RawEvent) {
	raw.brokerDomain = c.connector.domain
	one := &webhookWork{client: c, raw: raw, request: r, outcome: make(chan *Error, 1)}
	c.workers.add(one)
	switch failure := one.wait(); {
	case failure == nil:
		w.WriteHeader(http.StatusNoContent)
	case failure.Reason == ReasonClientClosed || errors.Is(failure, errSenderGone):
		answerError(w, http.StatusServiceUnavailable, failure)
	case failure.Reason == ReasonNoHandler && strings.HasSuffix(raw.Type, "/_test"):
		w.WriteHeader(http.StatusNoContent) // a test of the subscription
	default:
		c.reportFailure(raw, failure)
		answerError(w, http.StatusInternalServerError, failure)
	}
}

var errSenderGone = errors.New("its sender has gone")

// webhookWork is an event that came by webhook. Its sender waits.
type webhookWork struct {
	client  *Client
	raw     *RawEvent
	request *http.Request
	outcome chan *Error
	taken   atomic.Bool // by a worker, or by its sender, who has gone before one had time
}

// wait returns the outcome. What was not begun when its sender goes is not begun any more: it is sent again.
func (w *webhookWork) wait() *Error {
	select {
	case failure := <-w.outcome:
		return failure
	case <-w.request.Context().Done():
	}
	if w.taken.CompareAndSwap(false, true) {
		w.raw = nil // what waits in line is no more than a place
		return newError(codes.Canceled, codeName(codes.Canceled), "%v", errSenderGone).because(errSenderGone)
	}
	return <-w.outcome
}

func (w *webhookWork) run() {
	if !w.taken.CompareAndSwap(false, true) {
		return
	}
	failure := goroutineEnded() // unless it returns
	defer func() { w.outcome <- failure }()
	failure = w.client.handlers.handle(w.request.Context(), w.raw)
}

func (w *webhookWork) drop() { w.outcome <- clientClosed() }

func answerError(w http.ResponseWriter, status int, e *Error) {
	w.Header().Set("Content-Type", contentJSON)
	w.WriteHeader(status)
	// Nothing can be done where the sender has gone.
	_ = json.NewEncoder(w).Encode(map[string]string{"reason": e.Reason, "message": e.Message})
}
