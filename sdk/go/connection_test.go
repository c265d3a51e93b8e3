package certes

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/uris"
)

// gatewayServer is discovery and gRPC on real sockets of loopback.
type gatewayServer struct {
	http   *httptest.Server
	broker *fakeBroker
	grpc   net.Listener
	tokens record[string]
	answer func() any
}

// newGateway starts a gateway; with a certificate both its sockets speak TLS.
func newGateway(t *testing.T, certificate *tls.Certificate) *gatewayServer {
	t.Helper()
	if certificate == nil {
		return newGatewayWith(t, nil)
	}
	return newGatewayWith(t, &tls.Config{Certificates: []tls.Certificate{*certificate}})
}

func newGatewayWith(t *testing.T, config *tls.Config) *gatewayServer {
	t.Helper()
	g := &gatewayServer{broker: &fakeBroker{}}
	var err error
	if g.grpc, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	options := []grpc.ServerOption{grpc.StreamInterceptor(func(srv any, call grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if sent, ok := metadata.FromIncomingContext(call.Context()); ok {
			g.tokens.add(strings.Join(sent.Get("authorization"), "|"))
		}
		return handler(srv, call)
	})}
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	server := grpc.NewServer(options...)
	certesv1.RegisterEventServiceServer(server, g.broker)
	certesv1.RegisterSubscriptionServiceServer(server, g.broker)
	go func() { _ = server.Serve(g.grpc) }()
	t.Cleanup(server.Stop)
	g.answer = func() any { return g.document(config != nil) }
	g.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/certes" || r.Header.Get("Authorization") != "" {
			http.Error(w, "no", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(g.answer())
	}))
	g.http.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse the certificate
	if config != nil {
		g.http.TLS = config.Clone()
		g.http.StartTLS()
	} else {
		g.http.Start()
	}
	t.Cleanup(g.http.Close)
	return g
}

func (g *gatewayServer) document(withTLS bool) map[string]any {
	return map[string]any{
		"grpc":             map[string]any{"address": g.grpc.Addr().String(), "tls": withTLS},
		"protocolVersions": []string{"certes.v1"},
		"domain":           brokerDomain,
	}
}

func (g *gatewayServer) uri() string {
	return uris.GatewayScheme + g.http.Listener.Addr().String()
}

// authority makes a certificate for 127.0.0.1 that signs itself, and a file with it.
func authority(t *testing.T) (*tls.Certificate, string) {
	made := newKeyPair(t, "test")
	return &made.pair, made.certificate
}

func connected(t *testing.T, uri string, options ...Option) *Client {
	t.Helper()
	client, err := NewClient(uri, append([]Option{WithApp("app"), WithLogger(discard)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return client
}

func TestTheTokenGoesWithEveryCallOnLoopback(t *testing.T) {
	gateway := newGateway(t, nil)
	client := connected(t, gateway.uri(), WithToken("certes_1_x"))
	if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); err != nil {
		t.Fatal(err)
	}
	if got := gateway.tokens.get(); len(got) != 1 || got[0] != "Bearer certes_1_x" {
		t.Errorf("sent was %q", got)
	}
}

// overTLS has the client ask as if the gateway were on another machine: on loopback it would ask without TLS.
func overTLS(client *Client) {
	client.connector.find = func(ctx context.Context, s *settings) (*gatewayFound, error) {
		return findAt(ctx, s, client.connector.files, false)
	}
}

func TestDiscoveryAndGRPCTrustTheAuthoritiesThatAreGivenAndNoOthers(t *testing.T) {
	certificate, file := authority(t)
	gateway := newGateway(t, certificate)
	client := connected(t, gateway.uri(), WithToken("certes_1_x"), WithCAFile(file))
	overTLS(client)
	if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); err != nil {
		t.Fatal(err)
	}
	if got := gateway.tokens.get(); len(got) != 1 || got[0] != "Bearer certes_1_x" {
		t.Errorf("sent was %q", got)
	}
	_, other := authority(t)
	client = connected(t, gateway.uri(), WithCAFile(other))
	overTLS(client)
	if _, err := client.connector.connect(t.Context()); ReasonOf(err) != ReasonGatewayUnreachable {
		t.Errorf("with another authority it fails with %v", err)
	}
}

func TestWhatWasFoundOverTLSIsNotSpokenToWithout(t *testing.T) {
	certificate, file := authority(t)
	gateway := newGateway(t, certificate)
	gateway.answer = func() any { return gateway.document(false) }
	client := connected(t, gateway.uri(), WithToken("certes_1_x"), WithCAFile(file))
	overTLS(client)
	if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); ReasonOf(err) != ReasonGatewayInsecure {
		t.Errorf("it fails with %v", err)
	}
	if got := gateway.tokens.get(); len(got) != 0 {
		t.Errorf("sent was %q", got)
	}
}

func TestASocketWithoutTLSIsOnThisMachine(t *testing.T) {
	found, err := dialLoopback(t.Context(), "tcp", "192.0.2.1:1")
	if err == nil {
		_ = found.Close()
		t.Error("a socket to another machine was opened")
	}
}

func TestTheGatewayIsUnreachableWhereItDoesNotAnswerAsItShould(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for why, answer := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"an error":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"too much":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(" ", 64<<10+1)) },
		"nobody":     nil,
	} {
		uri := uris.GatewayScheme + closed.Addr().String()
		if answer != nil {
			server := httptest.NewServer(answer)
			defer server.Close()
			uri = uris.GatewayScheme + server.Listener.Addr().String()
		}
		if _, err := connected(t, uri).connector.connect(t.Context()); ReasonOf(err) != ReasonGatewayUnreachable || !asError(err).Retryable || asError(err).Hint == "" {
			t.Errorf("%s: it fails with %v", why, err)
		}
	}
}

func TestAGatewayIsFoundWhereResolveSays(t *testing.T) {
	gateway := newGateway(t, nil)
	client := connected(t, "events://events.meetly.com", WithResolve("other.example=127.0.0.1:1,events.meetly.com="+gateway.http.Listener.Addr().String()))
	if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); err != nil || len(gateway.broker.requests()) != 1 {
		t.Errorf("it fails with %v", err)
	}
}

func TestAClientAsksNobodyBeforeItHasTo(t *testing.T) {
	client := offline(t)
	client.connector.find = func(context.Context, *settings) (*gatewayFound, error) {
		t.Error("the gateway is asked")
		return nil, errors.New("no")
	}
	client.On(doneType, nothing)
	_ = client.Handler()
	if err := client.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAGatewayThatHasMovedIsFoundAgain(t *testing.T) {
	first, second := newGateway(t, nil), newGateway(t, nil)
	client := connected(t, first.uri())
	if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); err != nil {
		t.Fatal(err)
	}
	first.answer = func() any { return second.document(false) }
	_ = first.grpc.Close()
	client.connector.doubt()
	moved, err := client.connector.connect(t.Context())
	if err != nil || moved.place.Address != second.grpc.Addr().String() {
		t.Fatalf("it is found at %+v, %v", moved, err)
	}
	if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); err != nil {
		t.Error(err)
	}
	if len(second.broker.requests()) != 1 {
		t.Error("the event did not reach the second place")
	}
}
