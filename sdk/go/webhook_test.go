package certes

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/signatures"
)

const (
	firstSecret  = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	secondSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	doneEvent    = `{"specversion":"1.0","id":"1","source":"s","type":"` + doneType + `","everyone":true,"data":{"note":"hello","later":1}}`
)

// signed makes the request that a broker with a secret sends now.
func signed(t *testing.T, secret, body string) *http.Request {
	t.Helper()
	return signedAt(t, secret, body, time.Now())
}

func signedAt(t *testing.T, secret, body string, at time.Time) *http.Request {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	now := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("msg_1." + now + "." + body))
	request.Header.Set("Content-Type", "application/cloudevents+json")
	request.Header.Set("Webhook-Id", "msg_1")
	request.Header.Set("Webhook-Timestamp", now)
	request.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return request
}

func post(handler http.Handler, request *http.Request) (int, string) {
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	return answer.Code, answer.Body.String()
}

func webhookClient(t *testing.T, options ...Option) *Client {
	t.Helper()
	return connected(t, "events://127.0.0.1:1", append([]Option{WithWebhookKeys(firstSecret)}, options...)...)
}

func TestAWebhookIsReadAsAMessageAndFieldsThatItDoesNotKnowAreLeftOut(t *testing.T) {
	client := webhookClient(t)
	message := done(t, "")
	client.On(doneType, func(_ context.Context, raw *RawEvent) error { return raw.To(message) })
	if status, body := post(client.Handler(), signed(t, firstSecret, doneEvent)); status != http.StatusNoContent || noteOf(message) != "hello" {
		t.Errorf("it is answered %d %s, and read as %v", status, body, message)
	}
}

func TestAPanicOfAHandlerIsAFailureOfItsEventAndShowsNothingToTheSender(t *testing.T) {
	client := webhookClient(t)
	client.On(doneType, func(context.Context, *RawEvent) error { panic("oh") })
	status, body := post(client.Handler(), signed(t, firstSecret, doneEvent))
	if status != http.StatusInternalServerError || !strings.Contains(body, "HANDLER_FAILED") || strings.Contains(body, ".go:") {
		t.Errorf("it is answered %d %s", status, body)
	}
}

func TestAWebhookThatIsTooLargeIsReadNoFurther(t *testing.T) {
	client := webhookClient(t)
	request := signed(t, firstSecret, "")
	endless := &countingReader{}
	request.Body = io.NopCloser(endless)
	if status, body := post(client.Handler(), request); status != http.StatusBadRequest || !strings.Contains(body, ReasonPayloadTooLarge) {
		t.Errorf("it is answered %d %s", status, body)
	}
	if endless.read > maximumWebhookBytes+1<<20 {
		t.Errorf("%d bytes were read", endless.read)
	}
}

type countingReader struct{ read int }

func (r *countingReader) Read(into []byte) (int, error) {
	r.read += len(into)
	return len(into), nil
}

func TestAWebhookThatBreaksOffIsNoEvent(t *testing.T) {
	request := signed(t, firstSecret, "")
	request.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{}))
	if status, body := post(webhookClient(t).Handler(), request); status != http.StatusBadRequest {
		t.Errorf("it is answered %d %s", status, body)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("gone") }

func TestAClosedClientTakesNoWebhooks(t *testing.T) {
	client := webhookClient(t)
	client.On(doneType, nothing)
	if err := client.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := post(client.Handler(), signed(t, firstSecret, doneEvent)); status != http.StatusServiceUnavailable || !strings.Contains(body, ReasonClientClosed) {
		t.Errorf("it is answered %d %s", status, body)
	}
}

func TestWebhooksCountAmongTheEventsThatAreHandledAtOnce(t *testing.T) {
	client := webhookClient(t, WithConcurrency(1))
	var running, most atomic.Int32
	begun, goOn := make(chan struct{}, 5), make(chan struct{})
	client.On(doneType, func(context.Context, *RawEvent) error {
		most.Store(max(most.Load(), running.Add(1)))
		begun <- struct{}{}
		<-goOn
		running.Add(-1)
		return nil
	})
	answered := make(chan int, 5)
	for range 5 {
		request := signed(t, firstSecret, doneEvent)
		go func() {
			status, _ := post(client.Handler(), request)
			answered <- status
		}()
	}
	for range 5 {
		<-begun
		goOn <- struct{}{}
		if status := <-answered; status != http.StatusNoContent {
			t.Errorf("it is answered %d", status)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d events were handled at once", most.Load())
	}
}

func TestTheSecretsOfTheApplicationsSubscriptionsVerifyWebhooks(t *testing.T) {
	gateway := newGateway(t, nil)
	gateway.broker.secrets = func(request *certesv1.GetSigningSecretsRequest) ([]*certesv1.SigningSecret, error) {
		switch request.GetName() {
		case "subscribers/default/subscriptions/app:one":
			return []*certesv1.SigningSecret{{Secret: firstSecret}}, nil
		case "subscribers/default/subscriptions/app:two":
			return []*certesv1.SigningSecret{{Secret: secondSecret}}, nil
		}
		return nil, refusal(t, codes.NotFound, "SUBSCRIPTION_NOT_FOUND", nil)
	}
	client := connected(t, gateway.uri(), WithCallbackURL("http://127.0.0.1:1/"))
	client.On(doneType, nothing)
	if status, body := post(client.Handler(), signed(t, firstSecret, doneEvent)); status != http.StatusUnauthorized {
		t.Errorf("before anything was ensured it is answered %d %s", status, body)
	}
	for _, name := range []string{"one", "two"} {
		if err := client.EnsureSubscriptions(t.Context(), Subscriptions{Events: []Selector{Event(doneType, nil)}, Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(11 * time.Second) // the secrets were asked for just now
	client.keyring.now = func() time.Time { return later }
	for _, secret := range []string{firstSecret, secondSecret} {
		if status, body := post(client.Handler(), signed(t, secret, doneEvent)); status != http.StatusNoContent {
			t.Errorf("it is answered %d %s", status, body)
		}
	}
}

func TestSecretsAreKeptForFiveMinutesAndStrangersCannotMakeItAsk(t *testing.T) {
	now := time.Now()
	fetches := 0
	var current string
	var failure error
	ring := newKeyring(nil, func(context.Context) ([]signatures.Key, error) {
		fetches++
		key, err := signatures.ParseKey(current)
		return []signatures.Key{key}, errors.Join(err, failure)
	})
	ring.now = func() time.Time { return now }
	steps := []struct {
		why     string
		after   time.Duration
		current string
		failure error
		secret  string
		reason  string
		fetches int
	}{
		{"at first they are fetched", 0, firstSecret, nil, firstSecret, "", 1},
		{"then they are known", time.Second, firstSecret, nil, firstSecret, "", 1},
		{"a stranger is refused", time.Second, firstSecret, nil, secondSecret, ReasonSignatureInvalid, 1},
		{"a rotated secret is not known within 10 s", 5 * time.Second, secondSecret, nil, secondSecret, ReasonSignatureInvalid, 1},
		{"and fetched after that", 4 * time.Second, secondSecret, nil, secondSecret, "", 2},
		{"after five minutes they are fetched again", 5 * time.Minute, secondSecret, nil, secondSecret, "", 3},
		{"where that fails nothing is judged", 5 * time.Minute, secondSecret, errors.New("gone"), secondSecret, ReasonSecretsUnavailable, 4},
		{"nor asked again within 10 s", 9 * time.Second, secondSecret, nil, secondSecret, ReasonSecretsUnavailable, 4},
		{"but after that", time.Second, secondSecret, nil, secondSecret, "", 5},
	}
	for _, step := range steps {
		now = now.Add(step.after)
		current, failure = step.current, step.failure
		request := signedAt(t, step.secret, doneEvent, now)
		reason := ""
		if refused := ring.verify(t.Context(), request.Header, []byte(doneEvent)); refused != nil {
			reason = refused.Reason
		}
		if reason != step.reason || fetches != step.fetches {
			t.Errorf("%s: %q after %d fetches; wanted %q after %d", step.why, reason, fetches, step.reason, step.fetches)
		}
	}
}

func TestAHundredBadSignaturesASecondHaveTheBrokerAskedOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked record[time.Time]
		broker := &fakeBroker{secrets: func(*certesv1.GetSigningSecretsRequest) ([]*certesv1.SigningSecret, error) {
			asked.add(time.Now())
			time.Sleep(time.Second) // longer than many a stranger waits
			return []*certesv1.SigningSecret{{Secret: firstSecret}}, nil
		}}
		client := newTestClient(t, broker, WithCallbackURL("https://app.example.com/"))
		client.On(doneType, nothing)
		for i := range 30 * 100 {
			request := signed(t, secondSecret, doneEvent)
			ctx, cancel := context.WithCancel(t.Context())
			if i%2 == 0 {
				time.AfterFunc(5*time.Millisecond, cancel)
			}
			go func() {
				defer cancel()
				if status, body := post(client.Handler(), request.WithContext(ctx)); status == http.StatusNoContent {
					t.Errorf("it is answered %d %s", status, body)
				}
			}()
			if i == 200 {
				if status, body := post(client.Handler(), signed(t, firstSecret, doneEvent)); status != http.StatusNoContent {
					t.Errorf("amidst them the broker's own is answered %d %s", status, body)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		pass(time.Second)
		times := asked.get()
		for i := range times[1:] {
			if between := times[i+1].Sub(times[i]); between < 10*time.Second {
				t.Errorf("it was asked again after %v", between)
			}
		}
		if len(times) != 3 {
			t.Errorf("it was asked at %v", times)
		}
	})
}

func TestAWebhookOfSixteenMebibytesIsReadAndAByteMoreIsNot(t *testing.T) {
	client := webhookClient(t)
	handled := 0
	client.On(doneType, func(context.Context, *RawEvent) error {
		handled++
		return nil
	})
	for _, v := range []struct{ size, status int }{{maximumWebhookBytes, http.StatusNoContent}, {maximumWebhookBytes + 1, http.StatusBadRequest}} {
		body := doneEvent + strings.Repeat(" ", v.size-len(doneEvent))
		if status, answer := post(client.Handler(), signed(t, firstSecret, body)); status != v.status {
			t.Errorf("%d bytes are answered %d %s", v.size, status, answer)
		}
	}
	if maximumWebhookBytes != 16<<20 || handled != 1 {
		t.Errorf("%d were handled", handled)
	}
}

func TestAWebhookWhoseSecretsCannotBeFetchedIsToBeSentAgain(t *testing.T) {
	client := connected(t, "events://127.0.0.1:1", WithCallbackURL("http://127.0.0.1:1/"))
	client.On(doneType, nothing)
	status, body := post(client.Handler(), signed(t, firstSecret, doneEvent))
	if status != http.StatusServiceUnavailable || !strings.Contains(body, `"reason":"SECRETS_UNAVAILABLE"`) {
		t.Errorf("it is answered %d %s", status, body)
	}
}

func TestWhatIsNoPOSTIsNotAllowed(t *testing.T) {
	client := webhookClient(t)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodOptions} {
		answer := httptest.NewRecorder()
		client.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(doneEvent)))
		if answer.Code != http.StatusMethodNotAllowed || answer.Header().Get("Allow") != http.MethodPost || !strings.Contains(answer.Body.String(), `"reason":`) {
			t.Errorf("%s is answered %d %s", method, answer.Code, answer.Body)
		}
	}
}

func TestAHandlerOfAWebhookThatEndsItsGoroutineHasFailed(t *testing.T) {
	client := webhookClient(t, WithConcurrency(1))
	client.On(doneType, func(context.Context, *RawEvent) error {
		runtime.Goexit()
		return nil
	})
	for range 3 {
		if status, body := post(client.Handler(), signed(t, firstSecret, doneEvent)); status != http.StatusInternalServerError || !strings.Contains(body, ReasonHandlerFailed) {
			t.Errorf("it is answered %d %s", status, body)
		}
	}
}

func TestAHandlerMountedInAServerAnswersOverHTTP(t *testing.T) {
	client := webhookClient(t)
	client.On(doneType, nothing)
	server := httptest.NewServer(client.Handler())
	defer server.Close()
	made := signed(t, firstSecret, doneEvent)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, bytes.NewReader([]byte(doneEvent)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = made.Header
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		t.Errorf("it is answered %s", answer.Status)
	}
}

func TestAWebhookWhoseSenderHasGoneIsNotBegunAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := webhookClient(t, WithConcurrency(1))
		var begun atomic.Int32
		goOn := make(chan struct{})
		client.On(doneType, func(context.Context, *RawEvent) error {
			begun.Add(1)
			<-goOn
			return nil
		})
		answered := make(chan int, 3)
		send := func(ctx context.Context) {
			request := signed(t, firstSecret, doneEvent).WithContext(ctx)
			go func() {
				status, _ := post(client.Handler(), request)
				answered <- status
			}()
			synctest.Wait()
		}
		send(t.Context())
		gone, cancel := context.WithCancel(t.Context())
		send(gone)
		send(t.Context())
		cancel()
		synctest.Wait()
		if len(answered) != 1 || <-answered == http.StatusNoContent {
			t.Error("the request of the sender who has gone is still there")
		}
		close(goOn)
		synctest.Wait()
		if begun.Load() != 2 || <-answered != http.StatusNoContent || <-answered != http.StatusNoContent {
			t.Errorf("%d events were begun", begun.Load())
		}
	})
}

func TestAWebhookWhoseSenderGoesWhileItIsHandledIsHandledToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := webhookClient(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended := false
		client.On(doneType, func(context.Context, *RawEvent) error {
			cancel()
			time.Sleep(time.Second)
			ended = true
			return nil
		})
		if status, body := post(client.Handler(), signed(t, firstSecret, doneEvent).WithContext(ctx)); status != http.StatusNoContent || !ended {
			t.Errorf("it is answered %d %s", status, body)
		}
	})
}

func TestWhyTheSecretsCannotBeFetchedIsForTheLogAndNotForStrangers(t *testing.T) {
	log := &testLog{}
	client := connected(t, "events://127.0.0.1:1", WithCallbackURL("http://127.0.0.1:1/"), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	status, body := post(client.Handler(), signed(t, firstSecret, doneEvent))
	if status != http.StatusServiceUnavailable || strings.Contains(body, "127.0.0.1") || strings.Contains(body, "GATEWAY") {
		t.Errorf("it is answered %d %s", status, body)
	}
	if log.count("127.0.0.1:1") == 0 {
		t.Errorf("the log says %s", log)
	}
}

func TestAnEventIsNotTheDataOfAnotherThatHeadersMakeUp(t *testing.T) {
	client := webhookClient(t)
	handled := 0
	client.On(brokerDomain+"/**", func(context.Context, *RawEvent) error {
		handled++
		return nil
	})
	forged := func(body, contentType string) (int, string) {
		request := signed(t, firstSecret, body)
		request.Header.Set("Content-Type", contentType)
		for name, value := range map[string]string{"Specversion": "1.0", "Id": "forged", "Source": "s", "Type": brokerDomain + "/bank/1/paid", "Everyone": "true"} {
			request.Header.Set("Ce-"+name, value)
		}
		return post(client.Handler(), request)
	}
	for _, contentType := range []string{"application/json", "text/plain", ""} {
		status, body := forged(" "+doneEvent, contentType)
		if status != http.StatusBadRequest || !strings.Contains(body, ReasonPayloadMalformed) || handled != 0 {
			t.Errorf("as %q it is answered %d %s, and handled %d times", contentType, status, body, handled)
		}
	}
	for _, data := range []string{`{"specversion":1}`, `{"data":{"specversion":"1.0"}}`, `["specversion"]`, `{}`} {
		handled = 0
		if status, body := forged(data, "application/json"); status != http.StatusNoContent || handled != 1 {
			t.Errorf("%s is answered %d %s", data, status, body)
		}
	}
}
