"""`certes sources`: what it asks of the broker, and what it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NAME = "sources/github"
SOURCE = {
    "name": NAME,
    "provider": "github",
    "everyone": True,
    "labels": {"team": "a"},
    "path": "/events/github",
    "secretCount": 1,
    "createTime": "2026-01-01T00:00:00Z",
    "etag": "e1",
}
CONFIGURED = {
    "name": "sources/shop",
    "provider": "custom",
    "subscriber": "org_1",
    "path": "/events/shop",
    "configured": True,
    "signature": {"token": {"header": "x-token"}},
    "mapping": {"type": "a.b/shop/1/x"},
}
CREATE = ["sources", "create", "github", "--provider", "github", "--audience", "everyone"]
DEFINITION = """
title = "Shop"
[signature]
scheme = "hmac"
header = "X-Signature"
prefix = "sha256="
[mapping]
type = "events.example.com/shop/1/{event}"
event = { header = "X-Topic" }
subjects = [{ path = "order.id" }]
types = { paid = "events.example.com/shop/2/paid" }
"""


def test_create_prints_the_url_the_secret_and_where_to_paste_them(certes, gateway):
    gateway.answer("CreateSource", {"source": SOURCE, "secret": "made"})
    result = certes(*CREATE, "--broker", gateway.address)
    assert result.exit_code == 0
    assert "It takes webhooks from now on." in result.stdout
    assert f"http://{gateway.address}/events/github" in result.stdout
    assert "made   (made now, and not shown again)" in result.stdout
    assert "Paste these at GitHub (https://docs.github.com" in result.stdout
    assert gateway.requests("CreateSource") == [
        {"sourceId": "github", "source": {"provider": "github", "everyone": True}}
    ]


def test_create_sends_all_that_was_said(certes, gateway):
    gateway.answer("CreateSource", {"source": SOURCE})
    words = ["--secret", "hush", "--secret", "-", "--label", "a=b=c", "--label", "d=", "--keep-rejected"]
    result = certes(*CREATE, *words, "--broker", gateway.address, stdin="asked\n")
    assert result.exit_code == 0
    (request,) = gateway.requests("CreateSource")
    assert request["source"] == {
        "provider": "github",
        "everyone": True,
        "secrets": ["hush", "asked"],
        "keepRejected": True,
        "labels": {"a": "b=c", "d": ""},
    }
    assert "hush" not in result.output
    assert "asked" not in result.output


def test_a_provider_is_known_however_it_is_written_and_a_secret_that_was_brought_is_not_to_be_pasted(certes, gateway):
    gateway.answer("CreateSource", {"source": SOURCE})
    words = ["sources", "create", "s", "--provider", "Stripe", "--audience", "everyone", "--secret", "whsec_x"]
    result = certes(*words, "--broker", gateway.address)
    assert "Paste the URL at Stripe" in result.stdout
    assert gateway.requests("CreateSource")[0]["source"]["provider"] == "stripe"


def test_a_created_source_as_json_has_its_url_and_the_secret_that_was_made(certes, gateway):
    gateway.answer("CreateSource", {"source": SOURCE, "secret": "made"})
    result = certes(*CREATE, "--json", "--broker", gateway.address)
    assert json.loads(result.stdout) == SOURCE | {
        "url": f"http://{gateway.address}/events/github",
        "secret": "made",
    }


@pytest.mark.parametrize(
    ("audience", "sent"),
    [
        ("everyone", {"everyone": True}),
        ("subscribers/org_1", {"subscriber": "org_1"}),
        ("subscriber_in_payload", {"subscriberInPayload": True}),
    ],
)
def test_an_audience_is_sent_as_the_contract_has_it(certes, gateway, audience, sent):
    gateway.answer("CreateSource", {"source": SOURCE})
    words = ["sources", "create", "sources/github", "--provider", "github", "--audience", audience]
    assert certes(*words, "--broker", gateway.address).exit_code == 0
    (request,) = gateway.requests("CreateSource")
    assert request == {"sourceId": "github", "source": {"provider": "github"} | sent}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["github", "--provider", "gihtub", "--audience", "everyone"], "calendly, github, slack, stripe"),
        (["gitlab", "--provider", "gitlab", "--audience", "everyone"], "--provider custom"),
        (["github", "--provider", "github", "--audience", "all"], "'subscribers/ID', not 'all'"),
        (["github", "--provider", "github"], "Say whom its events are for"),
        (["shop", "--provider", "custom", "--audience", "everyone"], "--definition FILE"),
        (["stripe", "--provider", "stripe", "--audience", "everyone"], "it begins with whsec_"),
        (["stripe", "--provider", "stripe", "--audience", "everyone"], "--secret -"),
        (["pay", "--provider", "stripe", "--audience", "everyone"], "/events/pay"),
        (["slack", "--provider", "slack", "--audience", "everyone"], "Basic Information"),
        (["github", "--provider", "github", "--audience", "everyone", "--label", "x"], "KEY=VALUE"),
    ],
)
def test_what_cannot_be_meant_is_not_sent(certes, gateway, words, told):
    result = certes("sources", "create", *words, "--broker", gateway.address)
    assert result.exit_code == 2
    assert told in result.stderr
    assert gateway.calls == []


class TestDefinitions:
    CREATE = ("sources", "create", "shop", "--provider", "custom", "--audience", "everyone", "--definition")

    @pytest.mark.parametrize("suffix", ["toml", "json"])
    def test_a_definition_says_how_a_custom_source_verifies_and_maps(self, certes, gateway, tmp_path, suffix):
        file = tmp_path / f"shop.{suffix}"
        definition = {
            "title": "Shop",
            "signature": {"scheme": "hmac", "header": "X-Signature", "prefix": "sha256="},
            "mapping": {
                "type": "events.example.com/shop/1/{event}",
                "event": {"header": "X-Topic"},
                "subjects": [{"path": "order.id"}],
                "types": {"paid": "events.example.com/shop/2/paid"},
            },
        }
        file.write_text(DEFINITION if suffix == "toml" else json.dumps(definition))
        gateway.answer("CreateSource", {"source": CONFIGURED})
        result = certes(*self.CREATE, str(file), "--broker", gateway.address)
        assert result.exit_code == 0, result.output
        (request,) = gateway.requests("CreateSource")
        assert request["source"]["signature"] == {
            "hmac": {
                "header": "x-signature",
                "prefix": "sha256=",
                "algorithm": "ALGORITHM_SHA256",
                "encoding": "ENCODING_HEX",
            }
        }
        assert request["source"]["mapping"] == {
            "event": {"header": "x-topic"},
            "subjects": [{"path": "order.id"}],
            "type": "events.example.com/shop/1/{event}",
            "types": {"paid": "events.example.com/shop/2/paid"},
        }

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("= nonsense", "is no TOML"),
            ("[mapping]\ntype = 'a.b/_/1/x'", "signature: is missing"),
            ("[signature]\nscheme = 'basic'", "mapping: is missing"),
            ("[signature]\nscheme = 'rot13'\n[mapping]\ntype = 'a.b/_/1/x'", "rot13"),
            ("[signature]\nscheme = 'basic'\n[mapping]\ntype = 'x'", "mapping.type"),
            (f"{DEFINITION}\n[challenge]\nfield = 'x'", "challenge"),
        ],
    )
    def test_a_definition_that_cannot_be_meant_is_refused_with_its_place(self, certes, gateway, tmp_path, text, told):
        file = tmp_path / "shop.toml"
        file.write_text(text)
        result = certes(*self.CREATE, str(file), "--broker", gateway.address)
        assert result.exit_code == 2
        assert "shop.toml" in result.stderr.replace("\n", "")
        assert told in result.stderr
        assert gateway.calls == []

    def test_the_one_in_the_guide_can_be_used(self, certes, gateway, tmp_path):
        guide = Path(__file__).resolve().parents[3] / "docs" / "guide" / "sources.md"
        file = tmp_path / "shop.toml"
        file.write_text(guide.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0])
        gateway.answer("CreateSource", {"source": CONFIGURED})
        result = certes(*self.CREATE, str(file), "--broker", gateway.address)
        assert result.exit_code == 0, result.output

    def test_a_file_that_is_not_there_or_no_text_is_refused(self, certes, gateway, tmp_path):
        (tmp_path / "odd.json").write_bytes(b"\xff")
        for name in ("absent.toml", "odd.json"):
            result = certes(*self.CREATE, str(tmp_path / name), "--broker", gateway.address)
            assert result.exit_code == 2


def test_a_list_has_urls_and_follows_the_pages(certes, gateway):
    gateway.answer("ListSources", {"sources": [SOURCE], "nextPageToken": "t"})
    gateway.answer("ListSources", {"sources": [CONFIGURED]})
    result = certes("sources", "list", "--broker", gateway.address)
    assert result.stdout.splitlines() == [
        "NAME\tPROVIDER\tAUDIENCE\tSECRETS\tDECLARED\tURL",
        f"sources/github\tgithub\teveryone\t1\t\thttp://{gateway.address}/events/github",
        f"sources/shop\tcustom\tsubscribers/org_1\t0\tin the configuration\thttp://{gateway.address}/events/shop",
    ]
    assert [request["pageToken"] for request in gateway.requests("ListSources")] == ["", "t"]


def test_an_empty_list_says_what_to_do(certes, gateway):
    gateway.answer("ListSources", {})
    result = certes("sources", "list", "--broker", gateway.address)
    assert result.stdout == ""
    assert "certes sources create" in result.stderr


def test_get_takes_an_id_or_a_full_name(certes, gateway):
    for name in ("github", NAME):
        gateway.answer("GetSource", {"source": SOURCE})
        result = certes("sources", "get", name, "--broker", gateway.address)
        assert f"http://{gateway.address}/events/github" in result.stdout
        assert "team=a" in result.stdout
    assert gateway.requests("GetSource") == [{"name": NAME}] * 2


def test_update_changes_what_is_named_and_no_more(certes, gateway):
    gateway.answer("UpdateSource", {"source": SOURCE})
    words = ["--audience", "subscribers/a", "--drop-rejected", "--etag", "e1"]
    result = certes("sources", "update", "github", *words, "--broker", gateway.address)
    assert result.exit_code == 0
    assert gateway.requests("UpdateSource") == [
        {
            "source": {"name": NAME, "etag": "e1", "subscriber": "a", "keepRejected": False},
            "updateMask": "keepRejected,subscriber",
        }
    ]


def test_an_update_of_nothing_is_a_mistake(certes, gateway):
    assert certes("sources", "update", "github", "--broker", gateway.address).exit_code == 2
    assert gateway.calls == []


def test_delete_sends_the_etag_and_may_find_nothing(certes, gateway):
    gateway.answer("DeleteSource", {})
    result = certes("sources", "delete", "github", "--etag", "e1", "--missing-ok", "--broker", gateway.address)
    assert result.exit_code == 0
    assert gateway.requests("DeleteSource") == [{"name": NAME, "etag": "e1", "allowMissing": True}]


def test_a_rotation_prints_the_secret_that_was_made(certes, gateway):
    gateway.answer("RotateSourceSecret", {"source": SOURCE | {"secretCount": 2}, "secret": "made"})
    result = certes("sources", "rotate-secret", "github", "--overlap", "1h", "--broker", gateway.address)
    assert "made   (made now, and not shown again)" in result.stdout
    assert "2 verify now" in result.stdout
    assert gateway.requests("RotateSourceSecret") == [{"name": NAME, "secret": "", "overlap": "3600.000s"}]


def test_a_secret_that_was_brought_is_not_printed(certes, gateway):
    gateway.answer("RotateSourceSecret", {"source": SOURCE})
    result = certes("sources", "rotate-secret", "github", "--secret", "-", "--broker", gateway.address, stdin="hush\n")
    assert "hush" not in result.output
    assert gateway.requests("RotateSourceSecret")[0]["secret"] == "hush"


def test_an_overlap_that_is_no_duration_is_a_mistake(certes, gateway):
    result = certes("sources", "rotate-secret", "github", "--overlap", "soon", "--broker", gateway.address)
    assert result.exit_code == 2
