package uris

import "strings"

// Pattern selects event types. Made by ParsePattern, so that every value can match something.
type Pattern struct {
	text     string
	segments []string
	any      bool // whether the last segment is **, which is not among segments
	spelled  int
	stars    int
}

// ParsePattern reads a pattern. The fault is nil if it is well-formed and can match.
func ParsePattern(text string) (Pattern, *Fault) {
	if found := patternFault(text); found != nil {
		return Pattern{}, found
	}
	if found := unmatchableFault(text); found != nil {
		found.Unmatchable = true
		return Pattern{}, found
	}
	domain, rest, _ := strings.Cut(text, "/")
	p := Pattern{text: strings.ToLower(domain) + "/" + rest}
	p.segments = strings.Split(p.text, "/")
	if last := len(p.segments) - 1; p.segments[last] == "**" {
		p.any, p.segments = true, p.segments[:last]
	}
	for _, s := range p.segments {
		if s == "*" {
			p.stars++
		} else {
			p.spelled++
		}
	}
	return p, nil
}

// String returns the canonical spelling: the domain is in lower case.
func (p Pattern) String() string { return p.text }

// Matches says whether the pattern selects an event type, in its canonical spelling.
func (p Pattern) Matches(eventType string) bool {
	if !p.any && p.stars == 0 {
		return p.text == eventType
	}
	found := strings.Split(eventType, "/")
	// A wildcard never stands for the name of a system event.
	if (p.any || p.segments[len(p.segments)-1] == "*") && strings.HasPrefix(found[len(found)-1], "_") {
		return false
	}
	if p.any {
		if len(found) <= len(p.segments) {
			return false
		}
		found = found[:len(p.segments)]
	}
	if len(found) != len(p.segments) {
		return false
	}
	for i, want := range p.segments {
		if want != "*" && want != found[i] {
			return false
		}
	}
	return true
}

// Compare says how specific two patterns are: above 0 if p is the more specific one, 0 if both are equally specific.
//
// More specific is, in this order: to have no **, to spell more segments, to have more *.
func (p Pattern) Compare(other Pattern) int {
	if p.any != other.any {
		if p.any {
			return -1
		}
		return 1
	}
	if p.spelled != other.spelled {
		return p.spelled - other.spelled
	}
	return p.stars - other.stars
}

func patternFault(text string) *Fault {
	segments := split(text)
	if found := outlineFault(text, segments); found != nil {
		return found
	}
	for i, s := range segments[1:] {
		star := strings.IndexByte(s.text, '*')
		switch {
		case star < 0 || s.text == "*":
		case s.text != "**":
			return fault(text, s.offset+star, "'*' stands for a whole segment only")
		case i != len(segments)-2:
			return fault(text, s.offset, "'**' can only be the last segment")
		}
	}
	return nil
}

// unmatchableFault finds why no event URI can match a well-formed pattern, by spelling out the shortest ones that might: 1 can
// stand wherever * can, and has its length.
func unmatchableFault(text string) *Fault {
	begin, any := strings.CutSuffix(text, "/**")
	spelled := strings.ReplaceAll(begin, "*", "1")
	if !any {
		return eventTypeFault(spelled, split(spelled))
	}
	if !strings.Contains(spelled, "/") {
		return nil
	}
	found := eventTypeFault(spelled+"/1/x", split(spelled+"/1/x"))
	if found == nil || eventTypeFault(spelled+"/x", split(spelled+"/x")) == nil {
		return nil
	}
	// Well-formed patterns are of one byte a character up to where the fault can be.
	found.Position = min(found.Position, len([]rune(text)))
	return found
}
