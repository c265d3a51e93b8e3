"""SourceService: sources created, read, changed and deleted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest

from certes.v1 import source_pb2 as pb
from certes.v1 import source_service_pb2 as service_pb
from certes.v1.source_service_pb2_grpc import SourceServiceStub
from certes_broker.domain.sources import Everyone, Source, SourceSecret
from tests.contracts.grpc_callers import TIMEOUT, refused
from tests.fakes.loop_thread_broker import LoopThreadBroker

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
ABORTED = grpc.StatusCode.ABORTED
STANDARD_SECRET = "whsec_" + "A" * 44
HMAC = {"hmac": {"header": "X-Signature"}}
MAPPING = {"type": "events.example.com/shop/1/{event}", "event": {"header": "X-Topic"}}

_numbers = itertools.count(1)


class Sources:
    """Calls the service. `name` makes a name that no other test has."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub
        self.prefix = f"t{next(_numbers)}"

    def id(self, name: str = "github") -> str:
        return f"{self.prefix}-{name}"

    def name(self, name: str = "github") -> str:
        return f"sources/{self.id(name)}"

    def ask(self, rpc: str, **fields: Any) -> Any:
        request = getattr(service_pb, f"{rpc}Request")(**fields)
        return getattr(self.stub, rpc)(request, timeout=TIMEOUT)

    def create(self, name: str = "github", **fields: Any) -> service_pb.CreateSourceResponse:
        """Creates a GitHub source for everyone, but for the fields given."""
        return self.ask("CreateSource", source_id=self.id(name), source=source(**fields))

    def custom(self, name: str = "shop", **fields: Any) -> service_pb.CreateSourceResponse:
        given = {"signature": HMAC, "mapping": MAPPING, **fields}
        return self.create(name, provider="custom", **given)

    def get(self, name: str = "github") -> pb.Source:
        return self.ask("GetSource", name=self.name(name)).source

    def update(self, name: str = "github", *paths: str, **fields: Any) -> pb.Source:
        mask = {"paths": paths} if paths else None
        more = {"allow_missing": fields.pop("allow_missing")} if "allow_missing" in fields else {}
        given = {"name": self.name(name), **fields}
        return self.ask("UpdateSource", source=given, update_mask=mask, **more).source


def source(**fields: Any) -> dict[str, Any]:
    """A GitHub source for everyone, but for the fields given; None leaves one out."""
    audiences = {"subscriber", "everyone", "subscriber_in_payload"}
    everyone = None if audiences & set(fields) else True
    given = {"provider": "github", "everyone": everyone, **fields}
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture
def sources(grpc_channel: grpc.Channel, grpc_server: LoopThreadBroker) -> Sources:
    stub: Any = SourceServiceStub(grpc_channel)
    return Sources(stub)


class TestCreating:
    def test_a_source_is_created_with_a_secret_that_is_shown_once(self, sources: Sources) -> None:
        made = sources.create(labels={"team": "a"}, keep_rejected=True)
        assert len(bytes.fromhex(made.secret)) == 32
        created = made.source
        assert (created.name, created.path) == (sources.name(), f"/events/{sources.id()}")
        assert (created.provider, created.everyone, created.keep_rejected) == ("github", True, True)
        assert (created.secret_count, list(created.secrets), created.configured) == (1, [], False)
        assert created.create_time == created.update_time
        assert not created.HasField("signature")
        assert not created.HasField("mapping")
        assert created.etag
        assert sources.get() == created

    def test_a_secret_that_was_brought_is_not_shown_again(self, sources: Sources) -> None:
        made = sources.create(secrets=["mine", "older"])
        assert made.secret == ""
        assert (made.source.secret_count, list(made.source.secrets)) == (2, [])

    def test_the_secret_of_standard_webhooks_is_spelled_as_they_ask(self, sources: Sources) -> None:
        assert sources.custom(signature={"standard_webhooks": {}}).secret.startswith("whsec_")

    def test_a_source_without_signatures_has_no_secret(self, sources: Sources) -> None:
        made = sources.custom(signature={"none": {}})
        assert (made.secret, made.source.secret_count) == ("", 0)
        refusal = refused(lambda: sources.custom("other", signature={"none": {}}, secrets=["x"]))
        assert (refusal.reason, refusal.fields) == ("FIELD_INVALID", ["source.secrets[0]"])

    @pytest.mark.parametrize(
        ("given", "spelled"),
        [
            (
                {"hmac": {"header": "X-Sig"}},
                {"hmac": {"header": "x-sig", "algorithm": 1, "encoding": 1}},
            ),
            (
                {"hmac": {"header": "x-sig", "algorithm": 2, "encoding": 2, "prefix": "sha512="}},
                {"hmac": {"header": "x-sig", "algorithm": 2, "encoding": 2, "prefix": "sha512="}},
            ),
            ({"stripe": {}}, {"stripe": {"header": "stripe-signature", "tolerance": {"seconds": 300}}}),
            ({"slack": {"tolerance": {"seconds": 60}}}, {"slack": {"tolerance": {"seconds": 60}}}),
            ({"token": {"header": "X-Gitlab-Token"}}, {"token": {"header": "x-gitlab-token"}}),
            ({"basic": {}}, {"basic": {}}),
        ],
    )
    def test_a_custom_source_shows_how_it_verifies_and_maps(
        self, sources: Sources, given: dict[str, Any], spelled: dict[str, Any]
    ) -> None:
        mapping = {
            "event": {"path": "data.type"},
            "id": {"header": "X-Id"},
            "time": {"path": "created"},
            "subjects": [{"path": "data.id"}, {"header": "x-subject"}],
            "subscriber": {"path": "account"},
            "type": "events.example.com/shop/1/{event}",
            "types": {"invoice.paid": "events.example.com/shop/2/paid"},
        }
        secrets = ["user:password"] if "basic" in given else ["secret"]
        created = sources.custom(
            signature=given, mapping=mapping, subscriber_in_payload=True, everyone=None, secrets=secrets
        ).source
        assert created.signature == pb.SignatureScheme(**spelled)
        spelled_mapping: dict[str, Any] = {**mapping, "id": {"header": "x-id"}}
        assert created.mapping == pb.Mapping(**spelled_mapping)
        assert created.subscriber_in_payload
        assert sources.get("shop") == created

    def test_the_sources_own_name_may_say_the_id(self, sources: Sources) -> None:
        given = source(name=sources.name("mine"))
        assert sources.ask("CreateSource", source=given).source.name == sources.name("mine")
        yours = source(name=sources.name("yours"))
        refusal = refused(lambda: sources.ask("CreateSource", source_id=sources.id("mine"), source=yours))
        assert (refusal.code, refusal.fields) == (INVALID, ["source.name"])

    def test_a_name_that_is_taken_is_refused(self, sources: Sources) -> None:
        sources.create()
        refusal = refused(sources.create)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SOURCE_EXISTS")

    @pytest.mark.parametrize(
        ("fields", "reason", "field"),
        [
            ({"provider": None}, "FIELD_REQUIRED", "source.provider"),
            ({"provider": "gihtub"}, "FIELD_INVALID", "source.provider"),
            ({"everyone": None}, "FIELD_REQUIRED", "source.audience"),
            ({"everyone": False}, "FIELD_INVALID", "source.everyone"),
            ({"subscriber": "a/b"}, "MALFORMED_NAME", "source.subscriber"),
            ({"subscriber": ""}, "MALFORMED_NAME", "source.subscriber"),
            ({"mapping": MAPPING}, "FIELD_INVALID", "source.mapping"),
            ({"secrets": ["1", "2", "3", "4", "5"]}, "FIELD_INVALID", "source.secrets"),
            ({"secrets": ["1", ""]}, "FIELD_INVALID", "source.secrets[1]"),
            ({"signature": {}}, "FIELD_REQUIRED", "source.signature.scheme"),
            ({"signature": {"hmac": {}}}, "FIELD_REQUIRED", "source.signature.hmac.header"),
            ({"signature": {"hmac": {"header": "a b"}}}, "FIELD_INVALID", "source.signature.hmac.header"),
            (
                {"signature": {"hmac": {"header": "a", "algorithm": 9}}},
                "FIELD_INVALID",
                "source.signature.hmac.algorithm",
            ),
            ({"signature": {"hmac": {"header": "a", "prefix": "é"}}}, "FIELD_INVALID", "source.signature.hmac.prefix"),
            ({"signature": {"token": {}}}, "FIELD_REQUIRED", "source.signature.token.header"),
            (
                {"signature": {"slack": {"tolerance": {"seconds": 3601}}}},
                "FIELD_INVALID",
                "source.signature.slack.tolerance",
            ),
            ({"signature": {"standard_webhooks": {}}, "secrets": ["x"]}, "FIELD_INVALID", "source.secrets[0]"),
            ({"signature": {"basic": {}}, "secrets": ["no colon"]}, "FIELD_INVALID", "source.secrets[0]"),
            ({"labels": {"Team": "a"}}, "FIELD_INVALID", "source.labels['Team']"),
            ({"provider": "custom"}, "FIELD_REQUIRED", "source.signature"),
            ({"provider": "custom", "signature": HMAC}, "FIELD_REQUIRED", "source.mapping"),
        ],
    )
    def test_what_cannot_be_meant_is_refused_with_its_field(
        self, sources: Sources, fields: dict[str, Any], reason: str, field: str
    ) -> None:
        refusal = refused(lambda: sources.create(**fields))
        assert (refusal.code, refusal.reason, refusal.fields[0]) == (INVALID, reason, field)

    @pytest.mark.parametrize(
        ("mapping", "reason", "field"),
        [
            ({"type": ""}, "FIELD_REQUIRED", "source.mapping.type"),
            ({"type": "no uri"}, "FIELD_INVALID", "source.mapping.type"),
            ({"type": "events.example.com/shop/1/x-{event}"}, "FIELD_INVALID", "source.mapping.type"),
            ({"type": "events.example.com/shop/1/_{event}"}, "FIELD_INVALID", "source.mapping.type"),
            ({"event": None}, "FIELD_REQUIRED", "source.mapping.event"),
            ({"event": {}}, "FIELD_REQUIRED", "source.mapping.event"),
            ({"event": {"header": "a b"}}, "FIELD_INVALID", "source.mapping.event.header"),
            ({"event": {"header": "authorization"}}, "FIELD_INVALID", "source.mapping.event.header"),
            ({"id": {"path": "a..b"}}, "FIELD_INVALID", "source.mapping.id.path"),
            ({"subjects": [{"path": "a"}, {"path": ""}]}, "FIELD_INVALID", "source.mapping.subjects[1].path"),
            ({"types": {"paid": "no uri"}}, "FIELD_INVALID", "source.mapping.types['paid']"),
            ({"types": {"": "events.example.com/shop/1/x"}}, "FIELD_INVALID", "source.mapping.types"),
        ],
    )
    def test_a_mapping_that_could_map_nothing_is_refused_with_its_field(
        self, sources: Sources, mapping: dict[str, Any], reason: str, field: str
    ) -> None:
        given = {name: value for name, value in {**MAPPING, **mapping}.items() if value is not None}
        refusal = refused(lambda: sources.custom(mapping=given))
        assert (refusal.code, refusal.reason, refusal.fields[0]) == (INVALID, reason, field)

    def test_a_secret_that_the_provider_chooses_is_asked_for_with_where_it_is(self, sources: Sources) -> None:
        refusal = refused(lambda: sources.create(provider="slack"))
        assert (refusal.reason, refusal.fields) == ("FIELD_REQUIRED", ["source.secrets"])
        assert "Slack makes it" in refusal.message
        assert "under Basic Information" in refusal.message
        sources.create(provider="slack", secrets=["theirs"])
        refusal = refused(lambda: sources.ask("RotateSourceSecret", name=sources.name()))
        assert (refusal.reason, refusal.fields) == ("FIELD_REQUIRED", ["secret"])

    def test_a_credential_becomes_part_of_no_event(self, sources: Sources) -> None:
        refusal = refused(lambda: sources.custom(signature={"token": {"header": "x-topic"}}))
        assert refusal.fields == ["source.mapping"]

    def test_a_subscriber_in_the_payload_needs_a_place(self, sources: Sources) -> None:
        refusal = refused(lambda: sources.custom(subscriber_in_payload=True))
        assert refusal.fields == ["source.subscriber_in_payload"]

    def test_all_that_is_wrong_is_said_at_once(self, sources: Sources) -> None:
        refusal = refused(lambda: sources.custom(everyone=False, signature={"hmac": {}}, mapping={"type": "x"}))
        assert len(refusal.fields) >= 3

    def test_a_refusal_repeats_no_secret(self, sources: Sources) -> None:
        for secrets in (["whsec_hush-hush"], ["whpk_hush-hush"], ["hush-hush"]):
            refusal = refused(partial(sources.create, signature={"standard_webhooks": {}}, secrets=secrets))
            assert "hush-hush" not in f"{refusal.message}{refusal.metadata}{refusal.fields}"


class TestListing:
    def test_sources_are_listed_by_name_in_pages(self, sources: Sources) -> None:
        for name in ("b", "c", "a"):
            sources.create(name)
        seen: list[str] = []
        token = ""
        while True:
            page = sources.ask("ListSources", page_size=2, page_token=token)
            assert len(page.sources) <= 2
            assert all(not one.secrets for one in page.sources)
            seen += [one.name for one in page.sources]
            token = page.next_page_token
            if not token:
                break
        assert seen == sorted(seen)
        assert [name for name in seen if name.startswith(f"sources/{sources.prefix}-")] == [
            sources.name(name) for name in ("a", "b", "c")
        ]

    def test_a_page_is_never_larger_than_a_stock_client_takes(self, sources: Sources) -> None:
        types = {f"{number:0200}": f"events.example.com/{'a' * 1000}/1/x" for number in range(1_000)}
        for number in range(5):
            sources.custom(f"large-{number}", mapping={**MAPPING, "types": types})
        seen, token = [], ""
        while True:
            page = sources.ask("ListSources", page_token=token)
            assert page.ByteSize() < 4 << 20
            seen += [one.name for one in page.sources]
            token = page.next_page_token
            if not token:
                break
        assert {sources.name(f"large-{number}") for number in range(5)} <= set(seen)
        assert seen == sorted(set(seen))
        for number in range(5):
            sources.ask("DeleteSource", name=sources.name(f"large-{number}"))

    @pytest.mark.parametrize(("size", "code"), [(0, INVALID), (1_001, INVALID), (-1, INVALID)])
    def test_a_page_of_another_size_is_refused(self, sources: Sources, size: int, code: grpc.StatusCode) -> None:
        assert refused(lambda: sources.ask("ListSources", page_size=size)).code == code

    def test_a_token_that_was_not_given_is_refused(self, sources: Sources) -> None:
        assert refused(lambda: sources.ask("ListSources", page_token="x")).reason == "PAGE_TOKEN_INVALID"


class TestUpdating:
    def test_the_fields_of_the_mask_are_changed_and_no_other(self, sources: Sources) -> None:
        created = sources.create(labels={"a": "b"}, keep_rejected=True).source
        changed = sources.update("github", "labels", labels={"c": "d"}, keep_rejected=False)
        assert (dict(changed.labels), changed.keep_rejected, changed.secret_count) == ({"c": "d"}, True, 1)
        assert changed.etag != created.etag
        assert changed.create_time == created.create_time
        assert sources.get() == changed

    def test_without_a_mask_what_is_set_is_changed(self, sources: Sources) -> None:
        sources.create(labels={"a": "b"}, keep_rejected=True)
        changed = sources.update(subscriber="org_1")
        assert (changed.WhichOneof("audience"), dict(changed.labels), changed.keep_rejected) == (
            "subscriber",
            {"a": "b"},
            True,
        )

    def test_a_star_changes_everything_but_the_secrets_that_are_not_sent(self, sources: Sources) -> None:
        sources.create(labels={"a": "b"}, keep_rejected=True, signature=HMAC)
        changed = sources.update("github", "*", everyone=True)
        assert (dict(changed.labels), changed.keep_rejected, changed.HasField("signature")) == ({}, False, False)
        assert changed.secret_count == 1

    def test_what_was_read_can_be_sent_back(self, sources: Sources) -> None:
        sources.custom(labels={"a": "b"})
        read = sources.get("shop")
        for mask in (None, {"paths": ["*"]}):
            assert sources.ask("UpdateSource", source=read, update_mask=mask).source == read

    def test_a_part_of_the_signature_can_be_changed(self, sources: Sources) -> None:
        sources.custom(signature={"hmac": {"header": "x", "prefix": "sha256="}})
        changed = sources.update("shop", "signature.hmac.header", signature={"hmac": {"header": "Y"}})
        assert (changed.signature.hmac.header, changed.signature.hmac.prefix) == ("y", "sha256=")

    def test_secrets_are_replaced_when_they_are_sent(self, sources: Sources) -> None:
        sources.create(secrets=["1", "2"])
        assert sources.update(secrets=["3"]).secret_count == 1
        assert sources.update("github", "secrets").secret_count == 1

    def test_a_scheme_that_the_stored_secrets_do_not_fit_needs_others(self, sources: Sources) -> None:
        sources.custom()
        scheme = {"standard_webhooks": {}}
        refusal = refused(lambda: sources.update("shop", signature=scheme))
        assert (refusal.reason, refusal.fields) == ("FIELD_REQUIRED", ["source.secrets"])
        assert sources.update("shop", signature=scheme, secrets=[STANDARD_SECRET]).secret_count == 1
        assert sources.update("shop", signature={"none": {}}).secret_count == 0
        assert refused(lambda: sources.update("shop", signature=HMAC)).fields == ["source.secrets"]

    def test_the_provider_cannot_be_changed(self, sources: Sources) -> None:
        sources.create()
        refusal = refused(lambda: sources.update(provider="stripe"))
        assert (refusal.reason, refusal.fields) == ("FIELD_INVALID", ["source.provider"])
        assert sources.update(provider="github").provider == "github"

    @pytest.mark.parametrize("path", ["path", "secret_count", "configured", "create_time", "update_time"])
    def test_what_the_broker_says_is_refused_in_a_mask(self, sources: Sources, path: str) -> None:
        sources.create()
        refusal = refused(lambda: sources.update("github", path))
        assert (refusal.reason, refusal.metadata["path"]) == ("FIELD_OUTPUT_ONLY", path)

    def test_an_etag_that_is_not_the_stored_one_is_refused(self, sources: Sources) -> None:
        etag = sources.create().source.etag
        changed = sources.update(etag=etag, labels={"a": "b"})
        for stale in (
            lambda: sources.update(etag=etag, labels={}),
            lambda: sources.ask("DeleteSource", name=sources.name(), etag=etag),
        ):
            refusal = refused(stale)
            assert (refusal.code, refusal.reason, refusal.metadata["etag"]) == (ABORTED, "ETAG_MISMATCH", changed.etag)
        sources.ask("DeleteSource", name=sources.name(), etag=changed.etag)

    def test_a_missing_source_is_created_where_that_is_allowed(self, sources: Sources) -> None:
        assert refused(lambda: sources.update(everyone=True)).reason == "SOURCE_NOT_FOUND"
        given = source(name=sources.name())
        answer = sources.ask("UpdateSource", source=given, allow_missing=True, update_mask={"paths": ["nonsense"]})
        assert (len(answer.secret), answer.source.secret_count) == (64, 1)
        again = sources.ask("UpdateSource", source=given, allow_missing=True)
        assert (again.secret, again.source) == ("", answer.source)
        refusal = refused(lambda: sources.update("absent", everyone=True, etag="x", allow_missing=True))
        assert refusal.reason == "ETAG_MISMATCH"


class TestDeleting:
    def test_a_deleted_source_is_gone_and_its_name_free(self, sources: Sources) -> None:
        sources.create()
        sources.ask("DeleteSource", name=sources.name())
        assert refused(sources.get).reason == "SOURCE_NOT_FOUND"
        assert refused(lambda: sources.ask("DeleteSource", name=sources.name())).code == NOT_FOUND
        sources.ask("DeleteSource", name=sources.name(), allow_missing=True)
        sources.create()


class TestRotating:
    def rotate(self, sources: Sources, name: str = "github", **fields: Any) -> service_pb.RotateSourceSecretResponse:
        answer: service_pb.RotateSourceSecretResponse = sources.ask(
            "RotateSourceSecret", name=sources.name(name), **fields
        )
        return answer

    def test_a_new_secret_is_made_and_the_old_one_goes_on(self, sources: Sources) -> None:
        made = sources.create()
        rotated = self.rotate(sources)
        assert len(rotated.secret) == 64
        assert rotated.secret != made.secret
        assert (rotated.source.secret_count, list(rotated.source.secrets)) == (2, [])
        assert rotated.source.etag != made.source.etag

    def test_a_secret_that_is_brought_is_not_shown(self, sources: Sources) -> None:
        sources.create()
        rotated = self.rotate(sources, secret="mine", overlap={"seconds": 0})
        assert (rotated.secret, rotated.source.secret_count) == ("", 1)

    def test_four_secrets_verify_at_most(self, sources: Sources) -> None:
        sources.create()
        counts = [self.rotate(sources).source.secret_count for _ in range(5)]
        assert counts == [2, 3, 4, 4, 4]

    @pytest.mark.parametrize(
        ("fields", "reason", "field"),
        [
            ({"overlap": {"seconds": 31 * 86_400}}, "FIELD_INVALID", "overlap"),
            ({"overlap": {"seconds": -1}}, "FIELD_INVALID", "overlap"),
            ({"secret": "no whsec"}, "FIELD_INVALID", "secret"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, sources: Sources, fields: dict[str, Any], reason: str, field: str
    ) -> None:
        sources.custom(signature={"standard_webhooks": {}})
        refusal = refused(lambda: self.rotate(sources, "shop", **fields))
        assert (refusal.reason, refusal.fields) == (reason, [field])

    def test_there_is_nothing_to_rotate_where_nothing_is_signed(self, sources: Sources) -> None:
        sources.custom(signature={"none": {}})
        attempts: list[dict[str, Any]] = [{}, {"secret": "x"}]
        for fields in attempts:
            refusal = refused(partial(self.rotate, sources, "shop", **fields))
            assert (refusal.reason, refusal.fields) == ("FIELD_INVALID", ["secret"])


@pytest.mark.parametrize(
    ("rpc", "fields", "field"),
    [
        ("GetSource", {}, "name"),
        ("DeleteSource", {}, "name"),
        ("RotateSourceSecret", {}, "name"),
        ("ListRejected", {}, "parent"),
        ("GetRejected", {}, "name"),
        ("Reingest", {}, "names"),
        ("CreateSource", {"source": {"provider": "github", "everyone": True}}, "source_id"),
        ("CreateSource", {"source_id": "x"}, "source"),
        ("UpdateSource", {}, "source"),
        ("UpdateSource", {"source": {}}, "source.name"),
    ],
)
def test_what_a_request_must_have_is_asked_for(sources: Sources, rpc: str, fields: dict[str, Any], field: str) -> None:
    refusal = refused(lambda: sources.ask(rpc, **fields))
    assert (refusal.reason, refusal.fields[0]) == ("FIELD_REQUIRED", field)


@pytest.mark.parametrize(
    "name", ["github", "sources/", "sources/a/b", "sources/Ä", "subscribers/a", "sources/" + "a" * 64]
)
@pytest.mark.parametrize("rpc", ["GetSource", "DeleteSource", "RotateSourceSecret"])
def test_a_name_that_is_none_is_refused(sources: Sources, rpc: str, name: str) -> None:
    refusal = refused(lambda: sources.ask(rpc, name=name))
    assert (refusal.reason, refusal.fields) == ("MALFORMED_NAME", ["name"])


def declared(server: LoopThreadBroker, *found: Any) -> Callable[[], Any]:
    async def declare() -> None:
        server.broker.sources.declare(found)

    return declare


def test_a_configured_source_is_shown_and_cannot_be_changed(sources: Sources, grpc_server: LoopThreadBroker) -> None:
    grpc_server.run(declared(grpc_server, Source(sources.id(), "github", Everyone(), (SourceSecret("hush"),))))
    try:
        shown = sources.get()
        assert (shown.configured, shown.secret_count, shown.etag) == (True, 1, "")
        assert not shown.HasField("create_time")
        assert refused(sources.create).reason == "SOURCE_EXISTS"
        for change in (
            lambda: sources.update(labels={"a": "b"}),
            lambda: sources.ask("DeleteSource", name=sources.name()),
            lambda: sources.ask("RotateSourceSecret", name=sources.name()),
        ):
            refusal = refused(change)
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE_CONFIGURED")
    finally:
        grpc_server.run(declared(grpc_server))
