package uris

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// EventType is what an event URI names.
type EventType struct {
	Domain    string // in lower case
	Namespace string // one string that may contain /
	Version   int    // the major version, from 1
	Name      string
}

// String returns the canonical spelling.
func (t EventType) String() string {
	return t.Domain + "/" + t.Namespace + "/" + strconv.Itoa(t.Version) + "/" + t.Name
}

// IsSystem says whether the broker itself sends events of this type.
func (t EventType) IsSystem() bool { return strings.HasPrefix(t.Name, "_") }

// ParseEventType reads an event URI. The fault is nil if it is well-formed.
func ParseEventType(text string) (EventType, *Fault) {
	segments := split(text)
	if found := eventTypeFault(text, segments); found != nil {
		return EventType{}, found
	}
	last := len(segments) - 1
	version, _ := strconv.Atoi(segments[last-1].text)
	return EventType{
		Domain:    strings.ToLower(segments[0].text),
		Namespace: text[segments[1].offset : segments[last-1].offset-1],
		Version:   version,
		Name:      segments[last].text,
	}, nil
}

// segment is one part of a text between slashes, and the byte offset at which it begins.
type segment struct {
	offset int
	text   string
}

func split(text string) []segment {
	segments := make([]segment, 0, strings.Count(text, "/")+1)
	offset := 0
	for part := range strings.SplitSeq(text, "/") {
		segments = append(segments, segment{offset, part})
		offset += len(part) + 1
	}
	return segments
}

func eventTypeFault(text string, segments []segment) *Fault {
	if found := outlineFault(text, segments); found != nil {
		return found
	}
	if len(segments) < 4 {
		return fault(text, len(text),
			"a domain, a namespace, a version and a name are wanted here, parted by '/' ('_' is the default namespace)")
	}
	return placesFault(text, segments)
}

// outlineFault judges a whole text and its domain, be it an event URI or a pattern: first the length, then the domain, then
// whether a segment is empty, which would shift the places of the others.
func outlineFault(text string, segments []segment) *Fault {
	if utf8.RuneCountInString(text) > maximumLength {
		return &Fault{Position: maximumLength, Problem: "at most 2048 characters are allowed"}
	}
	if found := domainFault(text, segments[0]); found != nil {
		return found
	}
	for _, s := range segments {
		if s.text == "" {
			return fault(text, s.offset, "a segment is empty")
		}
	}
	return nil
}

// placesFault finds the first segment after the domain that cannot stand in its place.
func placesFault(text string, segments []segment) *Fault {
	last := len(segments) - 1
	namespace := segments[1 : last-1]
	for i, s := range namespace {
		if i == maximumNamespaceSegments {
			return fault(text, s.offset, "a namespace has at most %d segments", maximumNamespaceSegments)
		}
		if found := wordFault(text, s); found != nil {
			return found
		}
	}
	if found := versionFault(text, segments[last-1]); found != nil {
		return found
	}
	return wordFault(text, segments[last])
}

func wordFault(text string, s segment) *Fault {
	if i := strangerIn(s.text, isWord); i >= 0 {
		return fault(text, s.offset+i, "only a-z, 0-9 and '_' can stand here, not %s", characterAt(s.text, i))
	}
	return nil
}

func versionFault(text string, s segment) *Fault {
	if i := strangerIn(s.text, isDigit); i >= 0 {
		return fault(text, s.offset+i,
			"the segment before the name is the version, a positive integer; %s is no digit", characterAt(s.text, i))
	}
	if s.text[0] == '0' {
		return fault(text, s.offset, "a version is a positive integer without leading zeros")
	}
	if version, err := strconv.ParseInt(s.text, 10, 64); err != nil || version > maximumVersion {
		return fault(text, s.offset, "a version is at most %d", maximumVersion)
	}
	return nil
}

// domainFault finds what keeps a segment from being a DNS name as RFC 1123, section 2.1, has it.
func domainFault(text string, s segment) *Fault {
	offset, last := s.offset, s
	for label := range strings.SplitSeq(s.text, ".") {
		last = segment{offset, label}
		if found := labelFault(text, last); found != nil {
			return found
		}
		offset += len(label) + 1
	}
	if len(s.text) > maximumDomainLength {
		return fault(text, s.offset+maximumDomainLength, "a domain has at most %d characters", maximumDomainLength)
	}
	if strangerIn(last.text, isDigit) < 0 {
		// "a valid host name can never have the dotted-decimal form #.#.#.#" (RFC 1123): such a text is an address.
		return fault(text, last.offset, "a domain is a DNS name, whose last label is no number")
	}
	return nil
}

func labelFault(text string, label segment) *Fault {
	if i := strangerIn(label.text, isLabel); i >= 0 {
		return fault(text, label.offset+i,
			"a domain has letters, digits, '-' and '.' only, no scheme and no port; %s cannot be here", characterAt(label.text, i))
	}
	switch {
	case label.text == "":
		return fault(text, label.offset, "the domain, or a label of it, is empty")
	case len(label.text) > maximumLabelLength:
		return fault(text, label.offset+maximumLabelLength, "a label of a domain has at most %d characters", maximumLabelLength)
	case label.text[0] == '-':
		return fault(text, label.offset, "a label of a domain does not begin with '-'")
	case label.text[len(label.text)-1] == '-':
		return fault(text, label.offset+len(label.text)-1, "a label of a domain does not end with '-'")
	}
	return nil
}
