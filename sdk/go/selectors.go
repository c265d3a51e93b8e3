package certes

import (
	"maps"
	"reflect"

	certesv1 "github.com/hookactions/certes-sdk/go/gen/certes/v1"
	"github.com/hookactions/certes-sdk/go/internal/uris"
)

// Options narrow a selector by the options that an event type declares, such as the repo of a GitHub event. The packages of
// certes-contrib have a struct for each provider; [OptionsMap] serves all others.
type Options interface {
	// EventOptions returns the options by name, values as text. Empty values are left out.
	EventOptions() map[string]string
}

// OptionsMap are options by name. Booleans are "true" and "false", integers decimal.
type OptionsMap map[string]string

// EventOptions returns the map itself.
func (o OptionsMap) EventOptions() map[string]string { return o }

// Selector selects events by type and options. Make it with [Event].
type Selector struct {
	pattern string
	options map[string]string
	err     error
}

// Event makes a selector of a pattern, an event URI in which * stands for exactly one segment and a final ** for one or more, and of
// options, which may be nil.
//
// A pattern that is malformed is reported by EnsureSubscriptions: MALFORMED_PATTERN, or UNMATCHABLE_PATTERN.
func Event(pattern string, options Options) Selector {
	parsed, err := parsePattern(pattern)
	if err != nil {
		return Selector{pattern: pattern, err: err}
	}
	selector := Selector{pattern: parsed.String()}
	if options == nil || isNil(options) {
		return selector
	}
	for name, value := range options.EventOptions() {
		if value == "" {
			continue
		}
		if selector.options == nil {
			selector.options = map[string]string{}
		}
		selector.options[name] = value
	}
	return selector
}

// isNil says whether an interface holds a nil pointer, on which a method of a struct would fail.
func isNil(options Options) bool {
	value := reflect.ValueOf(options)
	return value.Kind() == reflect.Pointer && value.IsNil()
}

func (s Selector) equal(other Selector) bool {
	return s.pattern == other.pattern && maps.Equal(s.options, other.options)
}

// selectorsOf returns selectors as they are told, each once. It returns the first error among them.
func selectorsOf(events []Selector) ([]*certesv1.Selector, error) {
	if len(events) == 0 {
		return nil, invalidField("events", "are none: a subscription selects at least one event type")
	}
	var told []*certesv1.Selector
	for i, event := range events {
		if event.err != nil {
			return nil, event.err
		}
		if event.pattern == "" {
			return nil, invalidField("events", "has a selector that was not made by certes.Event")
		}
		known := false
		for _, earlier := range events[:i] {
			known = known || event.equal(earlier)
		}
		if !known {
			told = append(told, &certesv1.Selector{Pattern: event.pattern, Options: event.options})
		}
	}
	return told, nil
}

func parsePattern(text string) (uris.Pattern, error) {
	pattern, fault := uris.ParsePattern(text)
	if fault == nil {
		return pattern, nil
	}
	reason := ReasonMalformedPattern
	if fault.Unmatchable {
		reason = ReasonUnmatchablePattern
	}
	return pattern, faultError(reason, "pattern", text, fault)
}
