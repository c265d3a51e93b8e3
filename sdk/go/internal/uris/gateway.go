package uris

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// DefaultGatewayPort is the HTTP port of a gateway whose URI names none.
const DefaultGatewayPort = 9600

// GatewayScheme is how the URI of a gateway begins.
const GatewayScheme = "events://"

// Gateway is where a gateway is.
type Gateway struct {
	Host string // a DNS name in lower case, or an IP address without brackets
	Port int    // that of HTTP
}

// Authority returns host:port, an IPv6 address in brackets.
func (g Gateway) Authority() string { return net.JoinHostPort(g.Host, strconv.Itoa(g.Port)) }

// String returns the canonical spelling: without the port if that is the default one.
func (g Gateway) String() string {
	authority := g.Authority()
	if g.Port == DefaultGatewayPort {
		authority = strings.TrimSuffix(authority, ":"+strconv.Itoa(DefaultGatewayPort))
	}
	return GatewayScheme + authority
}

// ParseGateway reads events://host[:port]. The fault is nil if it is well-formed.
func ParseGateway(text string) (Gateway, *Fault) {
	start := len(GatewayScheme)
	// "An implementation should accept uppercase letters as equivalent to lowercase in scheme names" (RFC 3986, 3.1).
	if len(text) < start || !strings.EqualFold(text[:start], GatewayScheme) {
		return Gateway{}, fault(text, 0, "a gateway URI begins with %q", GatewayScheme)
	}
	if utf8.RuneCountInString(text) > maximumLength {
		return Gateway{}, &Fault{Position: maximumLength, Problem: "at most 2048 characters are allowed"}
	}
	host, end, found := readHost(text, start)
	switch {
	case found != nil:
		return Gateway{}, found
	case end == len(text):
		return Gateway{host, DefaultGatewayPort}, nil
	case text[end] != ':':
		return Gateway{}, fault(text, end, "only ':' and a port can follow the host")
	}
	port, found := readPort(text, end+1)
	return Gateway{host, port}, found
}

// readHost returns the host that begins at an offset, and where it ends.
func readHost(text string, start int) (string, int, *Fault) {
	if !strings.HasPrefix(text[start:], "[") {
		end := len(text)
		if colon := strings.IndexByte(text[start:], ':'); colon >= 0 {
			end = start + colon
		}
		host := text[start:end]
		if address, err := netip.ParseAddr(host); err == nil && address.Is4() {
			return address.String(), end, nil
		}
		if host == "" {
			return "", 0, fault(text, start, "the host is missing")
		}
		return strings.ToLower(host), end, domainFault(text, segment{start, host})
	}
	bracket := strings.IndexByte(text[start:], ']')
	if bracket < 0 {
		return "", 0, fault(text, len(text), "']' is missing after the IPv6 address")
	}
	address, err := netip.ParseAddr(text[start+1 : start+bracket])
	if err != nil || !address.Is6() || address.Zone() != "" {
		return "", 0, fault(text, start+1, "no IPv6 address stands between the brackets")
	}
	return address.String(), start + bracket + 1, nil
}

func readPort(text string, start int) (int, *Fault) {
	digits := text[start:]
	if i := strangerIn(digits, isDigit); i >= 0 {
		return 0, fault(text, start+i, "a port is a number, and nothing follows it; found %s", characterAt(digits, i))
	}
	port, err := strconv.Atoi(digits)
	if err != nil || digits[0] == '0' || port > 65535 {
		return 0, fault(text, start, "a port is a number from 1 to 65535, without leading zeros")
	}
	return port, nil
}
