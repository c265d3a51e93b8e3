package certes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
)

// keyPair is a certificate for 127.0.0.1 that signs itself, and the files of it and of its key.
type keyPair struct {
	pair             tls.Certificate
	leaf             *x509.Certificate
	certificate, key string
}

func newKeyPair(t *testing.T, name string) keyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	made := keyPair{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf, filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")}
	write(t, made.certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, made.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return made
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestAFileThatIsNoGoodIsRefusedByTheNameOfItsSetting(t *testing.T) {
	one, other := newKeyPair(t, "one"), newKeyPair(t, "other")
	folder := t.TempDir()
	empty, rubbish := filepath.Join(folder, "empty"), filepath.Join(folder, "rubbish")
	write(t, empty, nil)
	write(t, rubbish, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	for _, test := range []struct {
		option      Option
		field, said string
	}{
		{WithCAFile(empty + ".missing"), "ca_file", "no such file"},
		{WithCAFile(empty), "ca_file", "holds no certificate in PEM"},
		{WithCertificate(one.certificate, ""), "certificate_key", "is missing"},
		{WithCertificate("", one.key), "certificate", "is missing"},
		{WithCertificate(empty+".missing", one.key), "certificate", "no such file"},
		{WithCertificate(one.certificate, empty+".missing"), "certificate_key", "no such file"},
		{WithCertificate(one.key, one.key), "certificate", "holds no certificate in PEM"},
		{WithCertificate(rubbish, one.key), "certificate", "holds no certificate in PEM"},
		{WithCertificate(one.certificate, one.certificate), "certificate_key", "holds no private key in PEM"},
		{WithCertificate(one.certificate, other.key), "certificate_key", "is not the key of the certificate"},
	} {
		_, err := NewClient("events://d.example", test.option)
		if ReasonOf(err) != ReasonFieldInvalid || asError(err).Metadata["field"] != test.field || !strings.Contains(err.Error(), test.said) {
			t.Errorf("%s, %q: it fails with %v", test.field, test.said, err)
		}
	}
	both := filepath.Join(folder, "both")
	write(t, both, append(read(t, one.certificate), read(t, one.key)...))
	if _, err := NewClient("events://d.example", WithCertificate(both, both)); err != nil {
		t.Error(err)
	}
}

// newGatekeeper starts a gateway that lets in whoever has one of some certificates, and whose broker refuses requests of one name.
func newGatekeeper(t *testing.T, refused *atomic.Value, known ...keyPair) (*gatewayServer, string) {
	t.Helper()
	own := newKeyPair(t, "gateway")
	clients := x509.NewCertPool()
	for _, one := range known {
		clients.AddCert(one.leaf)
	}
	config := &tls.Config{Certificates: []tls.Certificate{own.pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	gateway := newGatewayWith(t, config)
	gateway.broker.publish = func(call certesv1.EventService_PublishStreamServer) error {
		for {
			request, err := call.Recv()
			if err != nil {
				return nil //nolint:nilerr // the client has gone
			}
			from, _ := peer.FromContext(call.Context())
			if from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0].Subject.CommonName == refused.Load() {
				return status.Error(codes.Unauthenticated, "no longer")
			}
			if err := call.Send(accepted(request)); err != nil {
				return err
			}
		}
	}
	return gateway, own.certificate
}

func TestACertificateThatWasRenewedIsShownOnceTheFormerIsRefused(t *testing.T) {
	former, renewed := newKeyPair(t, "former"), newKeyPair(t, "renewed")
	var refused atomic.Value
	gateway, ca := newGatekeeper(t, &refused, former, renewed)
	client := connected(t, gateway.uri(), WithCAFile(ca), WithCertificate(former.certificate, former.key))
	overTLS(client)
	publish := func() error { return client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")) }
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	refused.Store("former")
	if err := publish(); ReasonOf(err) != "UNAUTHENTICATED" {
		t.Errorf("as it was, it is answered with %v", err)
	}
	write(t, former.certificate, read(t, renewed.certificate))
	if err := publish(); ReasonOf(err) != "UNAUTHENTICATED" {
		t.Errorf("with a new certificate beside the old key, it is answered with %v", err)
	}
	write(t, former.key, read(t, renewed.key))
	if err := publish(); err != nil {
		t.Error(err)
	}
}

func TestWithoutACertificateAGatewayThatSaysThatGRPCAsksForOneIsNotConnectedTo(t *testing.T) {
	certificate, ca := authority(t)
	gateway := newGateway(t, certificate)
	gateway.answer = func() any {
		document := gateway.document(true)
		document["grpc"].(map[string]any)["clientCertificate"] = true
		return document
	}
	client := connected(t, gateway.uri(), WithCAFile(ca))
	overTLS(client)
	if err := client.SendOutgoingEvent(t.Context(), "org_1", done(t, "x")); ReasonOf(err) != ReasonCertificateMissing {
		t.Errorf("it fails with %v", err)
	}
}

func TestWithoutACertificateAGatewayThatAsksForOneIsUnreachable(t *testing.T) {
	var refused atomic.Value
	gateway, ca := newGatekeeper(t, &refused)
	client := connected(t, gateway.uri(), WithCAFile(ca))
	overTLS(client)
	_, err := client.connector.connect(t.Context())
	if ReasonOf(err) != ReasonGatewayUnreachable || !strings.Contains(asError(err).Hint, "name one by certificate and certificate_key") {
		t.Errorf("it fails with %v", err)
	}
}
