"""Sources to messages and back: nothing is lost or made up on the way, whatever a mask asks for."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from certes.v1 import source_pb2 as pb
from certes_broker.domain.events import Micros
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.signature_schemes import (
    BasicScheme,
    Encoding,
    HashAlgorithm,
    HmacScheme,
    NoScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
)
from certes_broker.domain.sources import CUSTOM, Everyone, PayloadSubscriber, Source, SourceSecret
from certes_broker.domain.webhook_mapping import HeaderPlace, PathPlace, WebhookMapping
from certes_broker.gateway.convert.sources import SourceRules, changed_source, new_source, source_message
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.update_masks import SOURCE, mask_paths, merge
from certes_broker.schemas.providers import shipped_providers

RULES = SourceRules(shipped_providers(), allow_unsigned=True)
NOW = Micros(1_800_000_000_000_000)

headers = st.from_regex(r"x-[a-z0-9-]{1,10}", fullmatch=True).filter(lambda name: "key" not in name)
tolerances = st.integers(1_000, 3_600_000).map(lambda millis: millis / 1_000)
places = st.builds(HeaderPlace, headers) | st.builds(
    PathPlace, st.lists(st.text(st.characters(exclude_characters=".", codec="utf-8"), min_size=1, max_size=5), min_size=1, max_size=4).map(tuple)
)  # fmt: skip
segments = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
mappings = st.builds(
    WebhookMapping,
    type=segments.map(lambda name: f"events.example.com/{name}/1/{{event}}"),
    event=places,
    id=st.none() | places,
    time=st.none() | places,
    subjects=st.lists(places, max_size=3).map(tuple),
    subscriber=places,
    types=st.dictionaries(
        st.text(min_size=1, max_size=5), segments.map(lambda name: f"a.b/_/2/{name}"), max_size=3
    ).map(lambda types: tuple(sorted(types.items()))),
)
schemes = st.one_of(
    st.builds(
        HmacScheme,
        headers,
        st.sampled_from(HashAlgorithm),
        st.sampled_from(Encoding),
        st.sampled_from(["", "sha256=", "v1,"]),
    ),
    st.builds(StripeScheme, headers, tolerances),
    st.builds(SlackScheme, tolerances),
    st.builds(StandardWebhooksScheme, tolerances),
    st.builds(TokenScheme, st.just("x-a-token")),
    st.just(BasicScheme()),
    st.just(NoScheme()),
)
labels = st.dictionaries(st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True), st.text(max_size=8), max_size=3).map(
    lambda pairs: tuple(sorted(pairs.items()))
)
audiences = st.sampled_from([Everyone(), PayloadSubscriber(), SubscriberName("org_1"), SubscriberName("everyone")])
custom = st.builds(
    lambda audience, scheme, mapping, keep, labels: Source(
        "made", CUSTOM, audience, (), scheme, mapping, keep_rejected=keep, labels=labels
    ),
    audiences,
    schemes,
    mappings,
    st.booleans(),
    labels,
)
provided = st.builds(
    lambda scheme, keep, labels: Source("made", "github", Everyone(), (), scheme, keep_rejected=keep, labels=labels),
    st.none() | schemes,
    st.booleans(),
    labels,
)
sources = custom | provided


def stored(source: Source) -> Source:
    """The source with a secret that its scheme takes, and what the broker says of a stored one."""
    secret = {
        BasicScheme: "user:password",
        StandardWebhooksScheme: "whsec_" + "A" * 44,
    }.get(type(RULES.scheme_of(source)), "secret")
    secrets = () if isinstance(RULES.scheme_of(source), NoScheme) else (SourceSecret(secret),)
    return replace(source, secrets=secrets, create_time=NOW, update_time=NOW, revision=3, etag="e")


@given(sources)
def test_a_source_is_read_back_as_it_was_shown(source: Source) -> None:
    faults = Faults()
    again = new_source(faults, RULES, source.name, source_message(source, NOW))
    faults.check()
    assert again == source


@given(sources)
def test_what_was_shown_can_be_sent_back_and_changes_nothing(source: Source) -> None:
    kept = stored(source)
    shown = source_message(kept, NOW)
    assert not shown.secrets
    for mask in ([], ["*"], [*SOURCE.changeable]):
        faults = Faults()
        paths = mask_paths(faults, SOURCE, shown, FieldMask(paths=mask))
        changed = changed_source(faults, RULES, kept, merge(paths, shown, shown))
        faults.check()
        assert changed == kept


@given(custom, custom, st.sets(st.sampled_from(["labels", "keep_rejected", "mapping"])))
def test_a_mask_takes_its_fields_from_the_request_and_all_others_from_what_is_stored(
    before: Source, after: Source, mask: set[str]
) -> None:
    # One audience and one scheme, so that every mix of the two is sound.
    after = replace(after, audience=before.audience, signature=before.signature)
    kept, given_message = stored(before), source_message(after, NOW)
    faults = Faults()
    paths = mask_paths(faults, SOURCE, given_message, FieldMask(paths=sorted(mask) or ["name"]))
    merged: pb.Source = merge(paths, given_message, source_message(kept, NOW))
    changed = changed_source(faults, RULES, kept, merged)
    faults.check()
    assert changed == replace(kept, **{field: getattr(after, field) for field in mask})
