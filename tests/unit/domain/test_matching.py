"""The routing table answers as if every interest were asked."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.matching import Interest, RoutingTable, Selector
from certes_broker.domain.uris import parse_event_type, parse_pattern

PUSH = "d/gh/1/push"
KEYS = "uvwxyz"
SUBSCRIBERS = ("ann", "bob")
PATTERNS = (PUSH, "d/gh/1/*", "d/gh/*/push", "d/**", "d/gh/**", "d/gh/1/_version", "e/gh/1/push", "d/gh/1/issues")
TYPES = (PUSH, "d/gh/1/issues", "d/gh/2/push", "d/gh/1/_version", "e/gh/1/push", "f/gh/1/push")

options = st.dictionaries(st.sampled_from(["org", "repo", "ref"]), st.sampled_from(["1", "2", ""]), max_size=3).map(
    lambda chosen: tuple(sorted(chosen.items()))
)
selectors = st.builds(Selector, st.sampled_from(PATTERNS).map(parse_pattern), options)
interests = st.builds(
    Interest,
    st.sampled_from(KEYS),
    st.sampled_from(SUBSCRIBERS),
    st.lists(selectors, max_size=4).map(tuple),
    st.booleans(),
    st.sampled_from(["", "", "short", "long"]),
)


def interest(key, subscriber="ann", pattern=PUSH, all_subscribers=False, filter_text="", **wanted):
    selector = Selector(parse_pattern(pattern), tuple(sorted(wanted.items())))
    return Interest(key, subscriber, (selector,), all_subscribers, filter_text)


def table_of(*interests):
    table: RoutingTable[str] = RoutingTable()
    for each in interests:
        table.put(each)
    return table


class RoutingMachine(RuleBasedStateMachine):
    """Puts, removes and matches in any order, beside a dict of the same interests that is scanned."""

    def __init__(self):
        super().__init__()
        # So little is remembered that routes and shelves are forgotten all the time.
        self.table: RoutingTable[str] = RoutingTable(remembered_keys=4, remembered_types=2)
        self.interests = {}

    @rule(interest=interests)
    def put(self, interest):
        self.table.put(interest)
        self.interests[interest.key] = interest

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key):
        self.table.remove(key)
        self.interests.pop(key, None)

    @rule(
        type_text=st.sampled_from(TYPES),
        subscriber=st.sampled_from((None, *SUBSCRIBERS, "carl")),
        options=options,
        passing=st.sets(st.sampled_from(["short", "long"])),
    )
    def match(self, type_text, subscriber, options, passing):
        asked = []

        def passes(key):
            asked.append(key)
            return self.interests[key].filter in passing

        def accepting(passes):
            event_type = parse_event_type(type_text)
            return sorted(
                key
                for key, interest in self.interests.items()
                if interest.accepts(event_type, subscriber, dict(options), passes)
            )

        found = self.table.match(type_text, subscriber, options, passes)
        assert sorted(found) == accepting(passing.__contains__)
        assert tuple(found) == tuple(self.table.match(type_text, subscriber, options, passes))
        # Only those are asked about that match but for their filters, and each but once.
        everything = accepting(lambda _: True)
        assert sorted(asked) == sorted(2 * [key for key in everything if self.interests[key].filter])
        assert sorted(self.table.match(type_text, subscriber, options)) == everything

    @invariant()
    def the_table_is_as_long_as_there_are_interests(self):
        assert len(self.table) == len(self.interests)

    @invariant()
    def the_table_knows_whether_there_are_filters(self):
        assert self.table.has_filters == any(interest.filter for interest in self.interests.values())


TestTheTableAnswersAsIfEveryInterestWereAsked = RoutingMachine.TestCase
TestTheTableAnswersAsIfEveryInterestWereAsked.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None
)


@given(st.lists(interests, max_size=8), st.sampled_from(TYPES), options)
@settings(deadline=None)
def test_an_emptied_table_keeps_nothing(interests, type_text, options):
    table = table_of(*interests)
    table.match(type_text, None, options)
    for key in KEYS:
        table.remove(key)
    assert len(table) == 0
    assert table.match(type_text, None, options) == ()
    assert (table._literals, table._wildcards, table._ordinals, table._filtered) == ({}, {}, {}, set())


def test_an_event_for_a_subscriber_reaches_that_subscriber_and_those_who_get_all():
    table = table_of(interest("a"), interest("b", "bob"), interest("all", "op", all_subscribers=True))
    assert table.match(PUSH, "ann", ()) == ("a", "all")
    assert table.match(PUSH, "carl", ()) == ("all",)
    assert table.match(PUSH, None, ()) == ("a", "b", "all")


def test_a_subscriber_may_be_called_what_it_likes():
    table = table_of(interest("a", "everyone"), interest("b", "all_subscribers"))
    assert table.match(PUSH, "everyone", ()) == ("a",)
    assert table.match(PUSH, "carl", ()) == ()


def test_an_option_that_the_event_does_not_have_never_matches():
    table = table_of(interest("a", repo="r"), interest("empty", repo=""))
    assert table.match(PUSH, "ann", ()) == ()
    assert table.match(PUSH, "ann", (("org", "r"),)) == ()
    assert table.match(PUSH, "ann", (("repo", "r"),)) == ("a",)
    assert table.match(PUSH, "ann", (("repo", ""),)) == ("empty",)


def test_every_option_given_must_be_equal():
    table = table_of(interest("both", org="o", repo="r"))
    assert table.match(PUSH, "ann", (("org", "o"), ("repo", "r"))) == ("both",)
    assert table.match(PUSH, "ann", (("org", "o"), ("repo", "other"))) == ()


def test_overlapping_selectors_give_a_key_once():
    pushes, everything = parse_pattern(PUSH), parse_pattern("d/gh/1/*")
    wanted = (Selector(everything), Selector(pushes), Selector(pushes, (("repo", "r"),)), Selector(pushes))
    table = table_of(Interest("a", "ann", wanted))
    assert table.match(PUSH, "ann", (("repo", "r"),)) == ("a",)
    table.remove("a")
    assert table.match(PUSH, "ann", (("repo", "r"),)) == ()


def test_keys_come_in_the_order_they_were_put_those_without_options_first():
    table = table_of(interest("c", repo="r"), interest("z"), interest("a", pattern="d/**"), interest("b", repo="r"))
    table.put(interest("z", pattern="d/gh/1/*"))
    assert table.match(PUSH, "ann", (("repo", "r"),)) == ("z", "a", "c", "b")


def test_a_change_is_seen_by_the_next_event_and_not_by_an_earlier_answer():
    table = table_of(interest("a"))
    before = table.match(PUSH, "ann", ())
    table.put(interest("b"))
    table.put(interest("a", repo="r"))
    assert before == ("a",)
    assert table.match(PUSH, "ann", ()) == ("b",)


def test_a_filter_is_asked_about_after_all_else_and_keeps_the_order():
    table = table_of(
        interest("a", filter_text="x"), interest("b"), interest("c", repo="r", filter_text="y"), interest("d", "bob")
    )
    asked = []

    def passes(key):
        asked.append(key)
        return key == "c"

    assert tuple(table.match(PUSH, "ann", (("repo", "r"),), passes)) == ("b", "c")
    assert asked == ["a", "c"]


def test_a_changed_filter_is_seen_by_the_next_event():
    table = table_of(interest("a"))
    assert table.match(PUSH, "ann", (), lambda _: False) == ("a",)
    table.put(interest("a", filter_text="x"))
    assert tuple(table.match(PUSH, "ann", (), lambda _: False)) == ()
    table.put(interest("a"))
    assert table.match(PUSH, "ann", (), lambda _: False) == ("a",)


def test_removing_an_unknown_key_changes_nothing():
    table = table_of(interest("a"))
    table.remove("b")
    assert table.match(PUSH, "ann", ()) == ("a",)


def test_putting_an_interest_again_unchanged_forgets_no_route():
    table = table_of(interest("a"))
    before = table.match(PUSH, "ann", ())
    table.put(interest("a"))
    assert table.match(PUSH, "ann", ()) is before


def test_a_type_that_is_no_event_uri_is_refused():
    with pytest.raises(Invalid) as refusal:
        table_of(interest("a")).match("push", "ann", ())
    assert refusal.value.reason is Reason.MALFORMED_URI


def test_remembered_routes_are_bounded():
    table: RoutingTable[str] = RoutingTable(remembered_keys=100, remembered_types=10)
    table.put(interest("a", pattern="d/**"))
    for number in range(1, 2000):
        assert table.match(f"d/a/{number}/x", "ann", ()) == ("a",)
    assert len(table._routes._young) + len(table._routes._old) <= 100
    assert len(table._shelves_by_type) <= 10
