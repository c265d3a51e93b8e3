package certes

import "log/slog"

// Option is a setting of [Init] and [NewClient]. It goes before the environment variable of its name; an empty text counts as
// absent.
type Option func(*arguments)

// arguments are what the options say; nil and empty are absent.
type arguments struct {
	token, app, callbackURL, subscriber, source, resolve string
	caFile, certificate, certificateKey                  string
	generation                                           *int64
	webhookKeys                                          []string
	concurrency, maxOutstanding                          *int
	logger                                               *slog.Logger
}

// WithToken sets the bearer token, sent as "authorization". Environment: CERTES_TOKEN. None by default.
func WithToken(token string) Option { return func(a *arguments) { a.token = token } }

// WithApp names the application, and so its subscription. Environment: CERTES_APP. None by default; required for subscriptions.
func WithApp(app string) Option { return func(a *arguments) { a.app = app } }

// WithCallbackURL sets where the broker shall POST deliveries: the URL at which [HttpHandler] is mounted, as the broker sees it.
// Environment: CERTES_CALLBACK_URL. None by default: deliveries come by stream.
func WithCallbackURL(url string) Option { return func(a *arguments) { a.callbackURL = url } }

// WithSubscriber says whose events the application gets. Environment: CERTES_SUBSCRIBER. "default" by default.
func WithSubscriber(subscriber string) Option {
	return func(a *arguments) { a.subscriber = subscriber }
}

// WithSource sets the source of the events that are published. Environment: CERTES_SOURCE. "apps/" and the application's name by
// default.
func WithSource(source string) Option { return func(a *arguments) { a.source = source } }

// WithGeneration sets the application's release number, 0 or more: a list of selectors of a lower one cannot undo that of a higher
// one. Environment: CERTES_GENERATION. None by default: nothing is compared.
func WithGeneration(generation int64) Option {
	return func(a *arguments) { a.generation = &generation }
}

// WithWebhookKeys adds keys that verify webhooks to the secrets that are fetched from the broker: whsec_… and whpk_… texts.
// Environment: CERTES_WEBHOOK_KEYS, parted by spaces.
func WithWebhookKeys(keys ...string) Option {
	return func(a *arguments) { a.webhookKeys = append([]string{}, keys...) }
}

// WithCAFile names a PEM file of the authorities to trust instead of the system's. Environment: CERTES_CA_FILE.
func WithCAFile(path string) Option { return func(a *arguments) { a.caFile = path } }

// WithCertificate names PEM files of a certificate, with the chain that vouches for it, and of its key, to be shown to gateways that ask
// for one. They may be one file. Both are read again whenever the client connects, so that a certificate that was renewed is shown from then
// on. Environment: CERTES_CERTIFICATE and CERTES_CERTIFICATE_KEY. None by default.
func WithCertificate(certificate, key string) Option {
	return func(a *arguments) { a.certificate, a.certificateKey = certificate, key }
}

// WithResolve says where gateways are instead of where their names say: host[:port]=host[:port], several parted by commas, port
// 9600 where none is given. Environment: CERTES_RESOLVE.
func WithResolve(places string) Option { return func(a *arguments) { a.resolve = places } }

// WithConcurrency sets how many events are handled at once, 1 to 1,000,000. 64 by default.
func WithConcurrency(handlers int) Option { return func(a *arguments) { a.concurrency = &handlers } }

// WithMaxOutstanding sets how many deliveries may be unsettled on a stream, 1 to 100,000. 1,000 by default.
func WithMaxOutstanding(deliveries int) Option {
	return func(a *arguments) { a.maxOutstanding = &deliveries }
}

// WithLogger sets where what happens beside calls is told: one warning per thing that happened. [slog.Default] by default.
func WithLogger(logger *slog.Logger) Option { return func(a *arguments) { a.logger = logger } }
