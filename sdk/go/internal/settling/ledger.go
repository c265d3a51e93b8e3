// Package settling keeps account of the deliveries of one stream: which are unsettled, and what the broker has to be told.
//
// Everything here decides and does nothing: time is an argument, and what to send is returned.
package settling

import (
	"math/bits"
	"slices"
	"sort"
	"time"
	"unicode/utf8"

	"github.com/hookactions/certes-sdk/go/internal/ranges"
)

const (
	// Gather is how long settled deliveries wait for more.
	Gather = 10 * time.Millisecond
	// MaximumRanges is how many ranges one Acknowledge carries.
	MaximumRanges = 1000
	// MaximumReason is how many bytes are told of a failure.
	MaximumReason = 1024
	// MaximumHold is how long the time of a delivery is extended.
	MaximumHold = time.Hour
)

// Ledger is the account of one stream. It is not safe for concurrent use.
type Ledger struct {
	// MaximumOutstanding is how many deliveries the broker may have out on the stream.
	MaximumOutstanding int

	batches []batch // by their first ordinal; those that are settled whole are forgotten
	acked   []int64
	failed  []failure
	urgent  bool
	since   time.Time // when the first one was settled that is not told yet
}

type batch struct {
	first    int64
	count    int
	open     int
	received time.Time
	settled  []uint64 // a bit for each delivery
}

type failure struct {
	ordinal int64
	reason  string
}

// Nack says that deliveries failed, and why.
type Nack struct {
	Range  ranges.Range
	Reason string
}

// Report is what one Acknowledge tells.
type Report struct {
	Acked    []ranges.Range
	Nacked   []Nack
	Extended []ranges.Range
}

// Empty says whether there is nothing to tell.
func (r Report) Empty() bool { return len(r.Acked)+len(r.Nacked)+len(r.Extended) == 0 }

// Received takes in a batch.
func (l *Ledger) Received(first int64, count int, now time.Time) {
	l.batches = append(l.batches, batch{first, count, count, now, make([]uint64, (count+63)/64)})
}

// Done says that a delivery was handled. hurry is for one with an ordering key, whose successors wait for it.
func (l *Ledger) Done(ordinal int64, hurry bool, now time.Time) {
	if l.settle(ordinal) {
		l.note(hurry, now)
		l.acked = append(l.acked, ordinal)
	}
}

// Failed says that a delivery failed, and why.
func (l *Ledger) Failed(ordinal int64, reason string, now time.Time) {
	if l.settle(ordinal) {
		l.note(true, now)
		l.failed = append(l.failed, failure{ordinal, Shorten(reason)})
	}
}

// Untold says whether there is something to tell the broker, and whether that cannot wait for more.
func (l *Ledger) Untold() (some, hurried bool) {
	count := len(l.acked) + len(l.failed)
	return count > 0, count > 0 && (l.urgent || 4*count >= l.MaximumOutstanding)
}

// Due returns how long what there is to tell can wait for more.
func (l *Ledger) Due(now time.Time) time.Duration {
	if _, hurried := l.Untold(); hurried {
		return 0
	}
	return max(0, Gather-now.Sub(l.since))
}

// Take returns what to tell, as few ranges as possible, and takes it out. What is too much for one Acknowledge stays for the next, and
// is due at once. extend says whether the time of unsettled deliveries is to be extended with it.
func (l *Ledger) Take(now time.Time, extend bool) Report {
	var report Report
	report.Acked, l.acked = ranges.Cut(l.acked, MaximumRanges)
	report.Nacked, l.failed = cutFailures(l.failed, MaximumRanges-len(report.Acked))
	if extend {
		room := MaximumRanges - len(report.Acked) - len(report.Nacked)
		report.Extended = l.held(now)
		report.Extended = report.Extended[:min(len(report.Extended), room)]
	}
	l.urgent = len(l.acked)+len(l.failed) > 0
	return report
}

// Unsettled returns how many deliveries are not settled.
func (l *Ledger) Unsettled() int {
	count := 0
	for i := range l.batches {
		count += l.batches[i].open
	}
	return count
}

func (l *Ledger) note(hurry bool, now time.Time) {
	if len(l.acked)+len(l.failed) == 0 {
		l.since = now
	}
	l.urgent = l.urgent || hurry
}

// settle marks a delivery, and says whether it was unsettled.
func (l *Ledger) settle(ordinal int64) bool {
	i := sort.Search(len(l.batches), func(i int) bool { return l.batches[i].first > ordinal }) - 1
	if i < 0 || ordinal >= l.batches[i].first+int64(l.batches[i].count) {
		return false
	}
	b := &l.batches[i]
	at := ordinal - b.first
	if b.settled[at/64]&(1<<(at%64)) != 0 {
		return false
	}
	b.settled[at/64] |= 1 << (at % 64)
	if b.open--; b.open == 0 {
		l.batches = slices.Delete(l.batches, i, i+1)
	}
	return true
}

// held returns the unsettled deliveries that are not held for too long.
func (l *Ledger) held(now time.Time) []ranges.Range {
	var found []ranges.Range
	for _, b := range l.batches {
		if now.Sub(b.received) >= MaximumHold {
			continue
		}
		for word, settled := range b.settled {
			for open := ^settled; open != 0; open &= open - 1 {
				at := word*64 + bits.TrailingZeros64(open)
				if at >= b.count {
					break
				}
				ordinal := b.first + int64(at)
				if last := len(found) - 1; last >= 0 && found[last].Last == ordinal-1 {
					found[last].Last = ordinal
				} else {
					found = append(found, ranges.Range{First: ordinal, Last: ordinal})
				}
			}
		}
	}
	return found
}

// cutFailures makes ranges of failures that have one reason, at most so many, and returns those that are left.
func cutFailures(failures []failure, maximum int) ([]Nack, []failure) {
	if len(failures) == 0 {
		return nil, nil
	}
	slices.SortStableFunc(failures, func(a, b failure) int { return int(a.ordinal - b.ordinal) })
	var nacks []Nack
	for i, f := range failures {
		if last := len(nacks) - 1; last >= 0 && nacks[last].Range.Last == f.ordinal-1 && nacks[last].Reason == f.reason {
			nacks[last].Range.Last = f.ordinal
			continue
		}
		if len(nacks) >= maximum {
			return nacks, failures[i:]
		}
		nacks = append(nacks, Nack{ranges.Range{First: f.ordinal, Last: f.ordinal}, f.reason})
	}
	return nacks, nil
}

// Shorten cuts a text to MaximumReason bytes of UTF-8, between two characters.
func Shorten(text string) string {
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	if len(text) <= MaximumReason {
		return text
	}
	end := MaximumReason
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Without leaves one delivery out of a report, which the broker refused for it. It says whether the delivery was in it.
func (r Report) Without(ordinal int64) (Report, bool) {
	var found bool
	without := func(all []ranges.Range) []ranges.Range {
		var kept []ranges.Range
		for _, one := range all {
			parts, had := split(one, ordinal)
			found = found || had
			kept = append(kept, parts...)
		}
		return kept
	}
	left := Report{Acked: without(r.Acked), Extended: without(r.Extended)}
	for _, nack := range r.Nacked {
		parts, had := split(nack.Range, ordinal)
		found = found || had
		for _, part := range parts {
			left.Nacked = append(left.Nacked, Nack{part, nack.Reason})
		}
	}
	return left, found
}

func split(r ranges.Range, ordinal int64) ([]ranges.Range, bool) {
	if ordinal < r.First || ordinal > r.Last {
		return []ranges.Range{r}, false
	}
	var parts []ranges.Range
	if r.First < ordinal {
		parts = append(parts, ranges.Range{First: r.First, Last: ordinal - 1})
	}
	if ordinal < r.Last {
		parts = append(parts, ranges.Range{First: ordinal + 1, Last: r.Last})
	}
	return parts, true
}
