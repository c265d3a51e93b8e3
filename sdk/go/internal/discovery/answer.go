// Package discovery judges what a gateway answers at /.well-known/certes.
package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Path is where a gateway answers.
const Path = "/.well-known/certes"

// Protocol is the one that this SDK speaks.
const Protocol = "certes.v1"

// Place is where gRPC is, and how it is spoken to.
type Place struct {
	Address string // host:port, an IPv6 address in brackets
	TLS     bool
	Domain  string // the broker's own; empty where it does not say
	// AsksCertificate says that clients are turned away that show none.
	AsksCertificate bool
}

// Refusal says why an answer cannot be used.
type Refusal struct {
	// Insecure says that it would have a token travel in clear. If not, the answer is no gateway's, or one's of another protocol.
	Insecure bool
	// Text says it for a person.
	Text string
}

// Judge reads an answer. foundOnLoopback says that it came without TLS, from this machine.
//
// isLoopback says of the host in the answer whether it is on this machine; it is asked only where that matters.
func Judge(body []byte, foundOnLoopback bool, isLoopback func(host string) bool) (Place, *Refusal) {
	var answer struct {
		GRPC *struct {
			Address string `json:"address"`
			TLS     bool   `json:"tls"`
			Asks    any    `json:"clientCertificate"`
		} `json:"grpc"`
		ProtocolVersions []string `json:"protocolVersions"`
		Domain           string   `json:"domain"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Place{}, &Refusal{Text: "its answer is not what a gateway says: " + err.Error()}
	}
	if !slices.Contains(answer.ProtocolVersions, Protocol) {
		return Place{}, &Refusal{Text: fmt.Sprintf("it speaks %q, and not %s", answer.ProtocolVersions, Protocol)}
	}
	if answer.GRPC == nil {
		return Place{}, &Refusal{Text: "it does not say where gRPC is"}
	}
	host, ok := hostOf(answer.GRPC.Address)
	if !ok {
		return Place{}, &Refusal{Text: fmt.Sprintf("its gRPC address %q is not host:port", answer.GRPC.Address)}
	}
	if !answer.GRPC.TLS {
		switch {
		case !foundOnLoopback:
			return Place{}, &Refusal{Insecure: true, Text: "it was found over TLS, and wants gRPC without"}
		case !isLoopback(host):
			text := fmt.Sprintf("it wants gRPC without TLS at %s, which is not on this machine", answer.GRPC.Address)
			return Place{}, &Refusal{Insecure: true, Text: text}
		}
	}
	return Place{answer.GRPC.Address, answer.GRPC.TLS, answer.Domain, answer.GRPC.TLS && answer.GRPC.Asks == true}, nil
}

// hostOf returns the host of host:port, and whether the text is that.
func hostOf(address string) (string, bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || strconv.FormatUint(number, 10) != port {
		return "", false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host, true
	}
	for _, c := range host {
		isName := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
		if !isName {
			return "", false
		}
	}
	return host, true
}

// IsLoopback says whether a host is this machine: localhost and names below it, or a loopback address. Nothing is looked up.
func IsLoopback(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().IsLoopback()
	}
	name := strings.ToLower(host)
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// Resolver looks names up; [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ResolvesToLoopback says whether a host is this machine, also where that is a name all of whose addresses are loopback.
func ResolvesToLoopback(ctx context.Context, resolver Resolver, host string) bool {
	if IsLoopback(host) {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	addresses, err := resolver.LookupNetIP(ctx, "ip", host)
	return err == nil && len(addresses) > 0 && !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !a.Unmap().IsLoopback() })
}
