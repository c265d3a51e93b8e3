// Package uris reads event URIs, the patterns that select them, and the URIs of gateways.
//
// An event URI is <domain>/<namespace…>/<version>/<name>, read from the right. A pattern is an event URI in which * stands for
// exactly one whole segment of the namespace, version or name, and a last ** for one or more segments. What is malformed is
// refused with the place, never guessed. The broker judges by the same rules, which tests/vectors hold as data.
package uris

import (
	"fmt"
	"unicode/utf8"
)

const (
	maximumLength            = 2048
	maximumNamespaceSegments = 128
	maximumVersion           = 1<<31 - 1
	maximumDomainLength      = 253
	maximumLabelLength       = 63
)

// Fault says what is wrong with a text, and where.
type Fault struct {
	// Position counts characters (Unicode code points) from 0, and points at the first that cannot stand where it does; at the
	// end of the text if something is missing there.
	Position int
	// Problem says it for a person.
	Problem string
	// Unmatchable says that a pattern keeps the rules, and yet no event URI can match it.
	Unmatchable bool
}

// Error says where and what.
func (f *Fault) Error() string {
	return fmt.Sprintf("at character %d: %s", f.Position, f.Problem)
}

// fault makes a Fault of a byte offset into text.
func fault(text string, offset int, format string, values ...any) *Fault {
	return &Fault{Position: utf8.RuneCountInString(text[:offset]), Problem: fmt.Sprintf(format, values...)}
}

// strangerIn returns the offset of the first character that is not allowed, or -1.
func strangerIn(text string, allowed func(byte) bool) int {
	for i := 0; i < len(text); i++ {
		if !allowed(text[i]) {
			return i
		}
	}
	return -1
}

// characterAt returns the whole character at an offset, as it is shown to people.
func characterAt(text string, offset int) string {
	r, _ := utf8.DecodeRuneInString(text[offset:])
	return fmt.Sprintf("%q", r)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isWord(c byte) bool { return 'a' <= c && c <= 'z' || isDigit(c) || c == '_' }

func isLabel(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '-'
}
