package settling_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hookactions/certes-sdk/go/internal/settling"
)

var start = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

func ledger(deliveries int) *settling.Ledger {
	l := &settling.Ledger{MaximumOutstanding: 1000}
	l.Received(1, deliveries, start)
	return l
}

func TestSettledDeliveriesWaitTenMillisecondsForMore(t *testing.T) {
	l := ledger(10)
	if some, _ := l.Untold(); some {
		t.Error("there is something to tell at first")
	}
	l.Done(1, false, start)
	l.Done(2, false, start.Add(4*time.Millisecond))
	if wait := l.Due(start.Add(4 * time.Millisecond)); wait != 6*time.Millisecond {
		t.Errorf("it waits %v", wait)
	}
	if wait := l.Due(start.Add(time.Second)); wait != 0 {
		t.Errorf("it still waits %v", wait)
	}
	if got := fmt.Sprint(l.Take(start, false)); got != "{[{1 2}] [] []}" {
		t.Errorf("it tells %s", got)
	}
	if some, _ := l.Untold(); some {
		t.Error("it is to be told again")
	}
}

func TestWhatCannotWaitHurries(t *testing.T) {
	for why, settle := range map[string]func(*settling.Ledger){
		"a key":     func(l *settling.Ledger) { l.Done(5, true, start) },
		"a failure": func(l *settling.Ledger) { l.Failed(5, "no", start) },
		"a quarter": func(l *settling.Ledger) {
			for ordinal := range int64(250) {
				l.Done(ordinal+1, false, start)
			}
		},
	} {
		l := ledger(300)
		settle(l)
		if _, hurried := l.Untold(); !hurried {
			t.Errorf("%s does not hurry", why)
		}
		l.Take(start, false)
		l.Done(299, false, start)
		if _, hurried := l.Untold(); hurried {
			t.Errorf("after %s all hurries", why)
		}
	}
}

func TestADeliveryIsSettledOnce(t *testing.T) {
	l := ledger(3)
	l.Done(2, false, start)
	l.Failed(2, "no", start)
	l.Done(2, false, start)
	l.Done(4, false, start)
	l.Done(0, false, start)
	if got := fmt.Sprint(l.Take(start, false)); got != "{[{2 2}] [] []}" || l.Unsettled() != 2 {
		t.Errorf("it tells %s, and %d are unsettled", got, l.Unsettled())
	}
}

func TestFailuresOfOneReasonAreOneRange(t *testing.T) {
	l := ledger(6)
	for ordinal, reason := range map[int64]string{5: "a", 2: "a", 3: "a", 4: "b"} {
		l.Failed(ordinal, reason, start)
	}
	if got := fmt.Sprint(l.Take(start, false)); got != "{[] [{{2 3} a} {{4 4} b} {{5 5} a}] []}" {
		t.Errorf("it tells %s", got)
	}
}

func TestOneReportHasAThousandRangesAndTheRestIsDueAtOnce(t *testing.T) {
	l := ledger(4000)
	for ordinal := int64(1); ordinal < 3000; ordinal += 2 {
		l.Done(ordinal, false, start)
	}
	l.Failed(3001, "no", start)
	first := l.Take(start, true)
	if len(first.Acked) != 1000 || len(first.Nacked)+len(first.Extended) != 0 {
		t.Errorf("it tells %d, %d and %d ranges", len(first.Acked), len(first.Nacked), len(first.Extended))
	}
	if _, hurried := l.Untold(); !hurried {
		t.Error("the rest waits")
	}
	second := l.Take(start, false)
	if len(second.Acked) != 500 || len(second.Nacked) != 1 {
		t.Errorf("then it tells %d and %d ranges", len(second.Acked), len(second.Nacked))
	}
}

func TestTheTimeOfUnsettledDeliveriesIsExtendedForAnHour(t *testing.T) {
	l := ledger(130)
	l.Received(131, 2, start.Add(30*time.Minute))
	for ordinal := int64(2); ordinal <= 129; ordinal++ {
		l.Done(ordinal, false, start)
	}
	l.Take(start, false)
	if got := fmt.Sprint(l.Take(start.Add(time.Minute), true).Extended); got != "[{1 1} {130 132}]" {
		t.Errorf("extended is %s", got)
	}
	if got := fmt.Sprint(l.Take(start.Add(time.Hour), true).Extended); got != "[{131 132}]" {
		t.Errorf("after an hour extended is %s", got)
	}
}

func TestAReasonIsCutBetweenTwoCharacters(t *testing.T) {
	for _, text := range []string{strings.Repeat("ä", 2000), "x" + strings.Repeat("😀", 500), "short", "\xff\xfe", ""} {
		got := settling.Shorten(text)
		if len(got) > settling.MaximumReason || !utf8.ValidString(got) || len(text) > 2000 && len(got) < settling.MaximumReason-3 {
			t.Errorf("%.20q becomes %d bytes", text, len(got))
		}
	}
}

func TestOneDeliveryCanBeLeftOutOfAReport(t *testing.T) {
	l := ledger(20)
	for ordinal := int64(1); ordinal <= 5; ordinal++ {
		l.Done(ordinal, false, start)
	}
	for ordinal := int64(6); ordinal <= 8; ordinal++ {
		l.Failed(ordinal, "no", start)
	}
	report := l.Take(start, true)
	for ordinal, want := range map[int64]string{
		1:  "{[{2 5}] [{{6 8} no}] [{9 20}]}",
		3:  "{[{1 2} {4 5}] [{{6 8} no}] [{9 20}]}",
		8:  "{[{1 5}] [{{6 7} no}] [{9 20}]}",
		20: "{[{1 5}] [{{6 8} no}] [{9 19}]}",
	} {
		if got, found := report.Without(ordinal); fmt.Sprint(got) != want || !found {
			t.Errorf("without %d it is %v; wanted %s", ordinal, got, want)
		}
	}
	if _, found := report.Without(21); found {
		t.Error("a delivery was found that is not in the report")
	}
}
