package certes

import (
	"log/slog"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/hookactions/certes-sdk/go/internal/signatures"
	"github.com/hookactions/certes-sdk/go/internal/uris"
)

const (
	defaultSubscriber     = "default"
	defaultConcurrency    = 64
	defaultMaxOutstanding = 1000
	maximumConcurrency    = 1_000_000
	maximumOutstanding    = 100_000
	maximumSourceBytes    = 512
)

// settings are what arguments and the environment come to. Absent texts are empty.
type settings struct {
	uri            string
	gateway        uris.Gateway // where the gateway is looked for
	token          string
	app            string
	callbackURL    string
	subscriber     string
	source         string
	generation     *int64
	webhookKeys    []signatures.Key
	caFile         string
	certificate    string // a file, as the next
	certificateKey string
	concurrency    int
	maxOutstanding int
	logger         *slog.Logger
}

// readSettings makes settings of arguments and an environment, whose empty variables count as absent. It does no I/O.
func readSettings(uri string, given arguments, getenv func(string) string) (*settings, error) {
	or := func(value, variable string) string {
		if value == "" {
			return getenv(variable)
		}
		return value
	}
	s := &settings{
		uri:            uri,
		token:          or(given.token, "CERTES_TOKEN"),
		app:            or(given.app, "CERTES_APP"),
		callbackURL:    or(given.callbackURL, "CERTES_CALLBACK_URL"),
		subscriber:     or(given.subscriber, "CERTES_SUBSCRIBER"),
		source:         or(given.source, "CERTES_SOURCE"),
		caFile:         or(given.caFile, "CERTES_CA_FILE"),
		certificate:    or(given.certificate, "CERTES_CERTIFICATE"),
		certificateKey: or(given.certificateKey, "CERTES_CERTIFICATE_KEY"),
		logger:         given.logger,
	}
	if s.subscriber == "" {
		s.subscriber = defaultSubscriber
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	steps := []func() error{
		func() (err error) {
			s.gateway, err = readGateway(uri, or(given.resolve, "CERTES_RESOLVE"))
			return err
		},
		s.checkTexts,
		func() (err error) {
			s.generation, err = readGeneration(given.generation, getenv("CERTES_GENERATION"))
			return err
		},
		func() (err error) {
			s.webhookKeys, err = readWebhookKeys(given.webhookKeys, getenv("CERTES_WEBHOOK_KEYS"))
			return err
		},
		func() (err error) {
			s.concurrency, err = readCount("concurrency", given.concurrency, defaultConcurrency, maximumConcurrency)
			return err
		},
		func() (err error) {
			s.maxOutstanding, err = readCount("max_outstanding", given.maxOutstanding, defaultMaxOutstanding, maximumOutstanding)
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if s.source == "" && s.app != "" {
		s.source = "apps/" + s.app
	}
	return s, nil
}

func (s *settings) checkTexts() error {
	if s.app != "" && !isID(s.app) {
		return invalidField("app", "%q is no id: %s", s.app, idRule)
	}
	if !isID(s.subscriber) {
		return invalidField("subscriber", "%q is no id: %s", s.subscriber, idRule)
	}
	if strings.TrimSpace(s.token) != s.token || strings.ContainsFunc(s.token, func(r rune) bool { return r < ' ' || r > '~' }) {
		return invalidField("token", "has characters that no header can carry")
	}
	if len(s.source) > maximumSourceBytes || !utf8.ValidString(s.source) || strings.ContainsFunc(s.source, unicode.IsControl) {
		return invalidField("source", "has at most %d bytes of UTF-8 and no control characters", maximumSourceBytes)
	}
	if s.certificate != "" && s.certificateKey == "" {
		return invalidField("certificate_key", "is missing: the file of the certificate's key, which may be that of the certificate")
	}
	if s.certificateKey != "" && s.certificate == "" {
		return invalidField("certificate", "is missing: the file of the certificate whose key is given")
	}
	if s.callbackURL != "" {
		parsed, err := url.Parse(s.callbackURL)
		if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" {
			return invalidField("callback_url", "%q is no URL of http or https with a host", s.callbackURL)
		}
	}
	return nil
}

// subscription returns the name of the application's subscription, or of the one that is called name beside it.
func (s *settings) subscription(name string) (string, error) {
	if s.app == "" {
		return "", newError(codes.FailedPrecondition, ReasonAppMissing,
			"a subscription is named for its application, and this one has no name").hinting("Set CERTES_APP, or use WithApp.")
	}
	id := s.app
	if name != "" {
		id += ":" + name
	}
	if !isID(id) {
		return "", invalidField("name", "%q cannot name a subscription: %s", id, idRule)
	}
	return "subscribers/" + s.subscriber + "/subscriptions/" + id, nil
}

const idRule = "1 to 128 letters, digits and '. _ ~ - : @', but not '-', '.' or '..'"

var idPattern = regexp.MustCompile(`^[A-Za-z0-9._~\-:@]{1,128}$`)

// isID says whether a text can name a subscriber, an application or a subscription.
func isID(text string) bool {
	return idPattern.MatchString(text) && text != "-" && text != "." && text != ".."
}

func readGateway(uri, resolve string) (uris.Gateway, error) {
	gateway, fault := uris.ParseGateway(uri)
	if fault != nil {
		return gateway, faultError(ReasonMalformedURI, "gateway URI", uri, fault)
	}
	found := gateway
	for entry := range strings.SplitSeq(resolve, ",") {
		if strings.TrimSpace(entry) == "" {
			continue
		}
		left, right, ok := strings.Cut(entry, "=")
		from, faultLeft := uris.ParseGateway(uris.GatewayScheme + strings.TrimSpace(left))
		to, faultRight := uris.ParseGateway(uris.GatewayScheme + strings.TrimSpace(right))
		if !ok || faultLeft != nil || faultRight != nil {
			return gateway, invalidField("resolve", "has an entry %q that is not host[:port]=host[:port]", entry)
		}
		if from == gateway {
			found = to
		}
	}
	return found, nil
}

func readGeneration(given *int64, variable string) (*int64, error) {
	if given == nil && variable == "" {
		return nil, nil
	}
	shown := variable
	if given == nil {
		if number, err := strconv.ParseUint(variable, 10, 63); err == nil {
			converted := int64(number)
			return &converted, nil
		}
	} else {
		if *given >= 0 {
			return given, nil
		}
		shown = strconv.FormatInt(*given, 10)
	}
	return nil, invalidField("generation", "%q is no number from 0 to 2^63 - 1", shown)
}

func readWebhookKeys(given []string, variable string) ([]signatures.Key, error) {
	if given == nil {
		given = strings.Fields(variable)
	}
	var keys []signatures.Key
	for _, text := range given {
		key, err := signatures.ParseKey(text)
		if err != nil {
			// Without the text: it may be a secret.
			return nil, invalidField("webhook_keys", "have a key that %v", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func readCount(name string, given *int, absent, most int) (int, error) {
	if given == nil {
		return absent, nil
	}
	if *given < 1 || *given > most {
		return 0, invalidField(name, "%d is no number from 1 to %d", *given, most)
	}
	return *given, nil
}

// faultError refuses a text that is malformed somewhere.
func faultError(reason, what, text string, fault *uris.Fault) *Error {
	shown := []rune(text)
	if len(shown) > 120 {
		shown = append(shown[:120], '…')
	}
	return newError(codes.InvalidArgument, reason, "%s %q is malformed, %v", what, string(shown), fault).
		with("position", strconv.Itoa(fault.Position)).with("problem", fault.Problem)
}
