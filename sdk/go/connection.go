package certes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/discovery"
)

const (
	discoveryTimeout      = 5 * time.Second
	maximumDiscoveryBytes = 64 << 10
	connectTimeout        = 5 * time.Second
	// An event is at most 3 MiB, and a batch that a single event fills a little more.
	maximumMessageBytes = 8 << 20
	windowBytes         = 8 << 20
	socketBufferBytes   = 128 << 10
	// gRPC refuses pings oftener than every 10 s, and pings find dead connections in a time that a heartbeat of 15 s does not.
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// connection is a gateway that was found, and the channel to it.
type connection struct {
	place   discovery.Place
	files   *tlsFiles // with which it was made
	channel *grpc.ClientConn
	events  certesv1.EventServiceClient
	subs    certesv1.SubscriptionServiceClient
}

// connector finds the gateway when it is first needed, and keeps the connection. It is safe for concurrent use.
type connector struct {
	settings *settings
	// find asks the gateway, and dial makes the channel. Tests have others.
	find func(context.Context, *settings) (*gatewayFound, error)
	dial func(*settings, *gatewayFound) (*grpc.ClientConn, error)

	turn  chan struct{} // holds one token: whoever has it may connect
	files *tlsFiles     // the last ones that fitted together, for whoever has the turn

	mu      sync.Mutex
	current *connection
	doubted bool
	closed  bool
}

func newConnector(s *settings, files *tlsFiles) *connector {
	c := &connector{settings: s, files: files, dial: dialGateway, turn: make(chan struct{}, 1)}
	c.find = func(ctx context.Context, s *settings) (*gatewayFound, error) {
		ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
		defer cancel()
		return findAt(ctx, s, c.files, discovery.ResolvesToLoopback(ctx, net.DefaultResolver, s.gateway.Host))
	}
	c.turn <- struct{}{}
	return c
}

// connect returns the connection, which it makes first if there is none. A gateway that is doubted is asked again where it is.
func (c *connector) connect(ctx context.Context) (*connection, error) {
	if current, err := c.usable(); current != nil || err != nil {
		return current, err
	}
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, asError(ctx.Err())
	}
	if current, err := c.usable(); current != nil || err != nil {
		return current, err
	}
	c.readFiles()
	found, err := c.find(ctx, c.settings)
	if err != nil {
		if old := c.known(); old != nil {
			return old, nil // it may be there again, although the gateway does not say so
		}
		return nil, err
	}
	return c.adopt(found)
}

func (c *connector) usable() (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, clientClosed()
	}
	if c.doubted {
		return nil, nil
	}
	return c.current, nil
}

func (c *connector) known() *connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// adopt makes the connection to a place the current one, unless it is that already.
func (c *connector) adopt(found *gatewayFound) (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, clientClosed()
	}
	c.doubted = false
	if c.current != nil {
		if c.current.place == found.place && c.current.files.equal(c.files) {
			return c.current, nil
		}
		_ = c.current.channel.Close()
		c.current = nil
	}
	channel, err := c.dial(c.settings, found)
	if err != nil {
		return nil, newError(codes.FailedPrecondition, ReasonProtocolUnsupported,
			"the gateway's gRPC address %q cannot be used: %v", found.place.Address, err).because(err)
	}
	c.current = &connection{found.place, c.files, channel, certesv1.NewEventServiceClient(channel), certesv1.NewSubscriptionServiceClient(channel)}
	return c.current, nil
}

// doubt has the gateway asked again, since it does not answer where it was.
func (c *connector) doubt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doubted = true
	if c.current != nil {
		c.current.channel.ResetConnectBackoff() // our own back-off decides when it is tried
	}
}

// readFiles reads the files of TLS again, for whoever has the turn. While they do not fit together, those that did hold.
func (c *connector) readFiles() {
	files, err := readTLSFiles(c.settings)
	if err != nil {
		c.settings.logger.Warn("certes: what was in the files of TLS is used on", "error", err)
		return
	}
	c.files = files
}

// mayPass says whether a call may succeed when it is made again, over another connection if need be: a connection lives longer than the
// certificate that it began with. So what is refused for its caller may succeed where the certificate has been renewed since.
func (c *connector) mayPass(refusal *Error) bool {
	if refusal.Code != codes.Unauthenticated {
		return mayPass(refusal)
	}
	current := c.known()
	files, err := readTLSFiles(c.settings)
	if current == nil || err != nil || files.equal(current.files) {
		return false
	}
	c.doubt()
	return true
}

// domain returns the broker's own domain, as far as it is known.
func (c *connector) domain() string {
	if current := c.known(); current != nil {
		return current.place.Domain
	}
	return ""
}

func (c *connector) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.current != nil {
		_ = c.current.channel.Close()
	}
}

// gatewayFound is what discovery comes to.
type gatewayFound struct {
	place discovery.Place
	tls   *tls.Config // nil where gRPC is spoken without
}

// findAt asks the gateway where gRPC is.
func findAt(ctx context.Context, s *settings, files *tlsFiles, onLoopback bool) (*gatewayFound, error) {
	config := files.config
	body, err := ask(ctx, s.gateway.Authority(), onLoopback, config)
	if err != nil {
		return nil, newError(codes.Unavailable, ReasonGatewayUnreachable, "the gateway %s does not say where it is: %v", s.gateway, err).
			hinting(unreachableHint(onLoopback)).because(err)
	}
	place, refusal := discovery.Judge(body, onLoopback, func(host string) bool {
		return discovery.ResolvesToLoopback(ctx, net.DefaultResolver, host)
	})
	if refusal != nil {
		reason := ReasonProtocolUnsupported
		if refusal.Insecure {
			reason = ReasonGatewayInsecure
		}
		return nil, newError(codes.FailedPrecondition, reason, "the gateway %s cannot be used: %s", s.gateway, refusal.Text)
	}
	if place.AsksCertificate && files.certificate == nil {
		return nil, newError(codes.FailedPrecondition, ReasonCertificateMissing,
			"the gateway says that gRPC at %s asks clients for certificates, and none is set", place.Address).
			hinting("Use WithCertificate, or set CERTES_CERTIFICATE and CERTES_CERTIFICATE_KEY.")
	}
	if !place.TLS {
		config = nil
	}
	return &gatewayFound{place, config}, nil
}

func unreachableHint(onLoopback bool) string {
	hint := "Is it running, and is the address right? CERTES_RESOLVE says where a gateway is in a place of its own."
	if onLoopback {
		return hint
	}
	// A server of TLS 1.3 turns a client away once it has begun to speak, and what it says of it may be lost.
	return hint + " If it asks clients for certificates, name one by certificate and certificate_key."
}

// ask returns what a gateway answers. On loopback it is asked without TLS, and only on a socket that is on this machine.
func ask(ctx context.Context, authority string, onLoopback bool, config *tls.Config) ([]byte, error) {
	address := url.URL{Scheme: "https", Host: authority, Path: discovery.Path}
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   config,
		ForceAttemptHTTP2: true,
		DisableKeepAlives: true,
	}
	if onLoopback {
		address.Scheme, transport.Proxy, transport.DialContext = "http", nil, dialLoopback
	}
	client := http.Client{
		Transport: transport,
		CheckRedirect: func(request *http.Request, _ []*http.Request) error {
			return fmt.Errorf("it redirects to %s, which is not followed", request.URL.Redacted())
		},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maximumDiscoveryBytes+1))
	if err == nil && len(body) > maximumDiscoveryBytes {
		err = errors.New("its answer is larger than 64 KiB")
	}
	return body, err
}

// dialGateway makes the channel to a place; it connects later, by itself.
func dialGateway(s *settings, found *gatewayFound) (*grpc.ClientConn, error) {
	options := channelOptions()
	if found.tls != nil {
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(found.tls)))
	} else {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dialLoopback(ctx, "tcp", address) }))
	}
	if s.token != "" {
		metadata := map[string]string{"authorization": "Bearer " + s.token}
		options = append(options, grpc.WithPerRPCCredentials(bearer{metadata, found.tls != nil}))
	}
	return grpc.NewClient(found.place.Address, options...)
}

func channelOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUserAgent("certes-sdk-go"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(), // what is tried again is decided here, event by event
		grpc.WithStaticStreamWindowSize(windowBytes),
		grpc.WithStaticConnWindowSize(windowBytes),
		grpc.WithReadBufferSize(socketBufferBytes),
		grpc.WithWriteBufferSize(socketBufferBytes),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maximumMessageBytes),
			grpc.MaxCallSendMsgSize(maximumMessageBytes),
			grpc.ForceCodecV2(newWireCodec()),
		),
	}
}

// dialLoopback opens a socket, and refuses one that is not on this machine, whatever a name resolved to in the meantime.
func dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	socket, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if remote, ok := socket.RemoteAddr().(*net.TCPAddr); !ok || !remote.IP.IsLoopback() {
		_ = socket.Close()
		return nil, fmt.Errorf("%s is not on this machine, and would be spoken to without TLS", address)
	}
	return socket, nil
}

// bearer sends the token with every call; where the connection should have TLS, only over that.
type bearer struct {
	metadata map[string]string
	secure   bool
}

// GetRequestMetadata returns the header.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return b.metadata, nil
}

// RequireTransportSecurity says whether TLS is required: everywhere but on loopback.
func (b bearer) RequireTransportSecurity() bool { return b.secure }
