"""The settings of the engine on NATS."""

from __future__ import annotations

from pathlib import Path

import pytest

from certes_broker.config import Config
from certes_broker.config.nats_place import nats_place
from certes_broker.domain.errors import Invalid, Reason

ENGINE = {"engine": "nats://a.example,b.example:4333"}


def complaint(**given: object) -> str:
    with pytest.raises(Invalid) as caught:
        Config.load(None, {}, {key.replace("__", "."): value for key, value in given.items()})
    assert caught.value.reason is Reason.SETTINGS_INVALID
    return str(caught.value)


def test_the_embedded_engine_is_the_default():
    assert Config.load(None, {}, {}).engine.is_embedded
    assert Config.load(None, {}, {"engine": "sqlite"}) == Config()


def test_servers_get_the_usual_port_and_the_scheme_of_all():
    engine = Config.load(None, {}, ENGINE).engine
    assert engine.urls == ("nats://a.example:4222", "nats://b.example:4333")
    assert str(engine) == "nats://a.example:4222,b.example:4333"
    assert Config.load(None, {}, {"engine": "tls://[::1]:1,tls://a/"}).engine.urls == ("tls://[::1]:1", "tls://a:4222")


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("postgres://x", 'wants "sqlite", or NATS servers'),
        ("nats://", 'wants "sqlite", or NATS servers'),
        ("nats://a b", "wants host names"),
        ("nats://a,,b", "wants host names"),
        ("nats://user:word@a", "name a file of credentials, or a token"),
        ("nat://user:word@a", "name a file of credentials, or a token"),
    ],
)
def test_what_names_no_engine_is_refused_with_what_would(engine: str, said: str):
    assert said in complaint(engine=engine)


def test_a_prefix_is_what_a_stream_may_be_called():
    assert Config.load(None, {}, {"nats.prefix": "team_a-1"}).nats.prefix == "team_a-1"
    assert "letters, digits" in complaint(nats__prefix="a.b")


def test_a_token_is_not_shown():
    config = Config.load(None, {"CERTES_NATS_TOKEN": "s3cret"}, ENGINE)
    assert nats_place(config).access.token == "s3cret"
    assert "s3cret" not in repr(config)
    assert "s3cret" not in repr(nats_place(config))


def test_an_address_that_is_monitored_has_no_user_and_a_password_is_not_repeated():
    said = complaint(nats__monitoring="http://a.example:8222,http://admin:hunter2@b.example:8222")
    assert "nats.monitoring holds a user" in said
    assert "hunter2" not in said


def test_half_a_certificate_and_two_ways_to_prove_who_one_is_are_refused():
    assert "nats.key" in complaint(nats__certificate="cert.pem")
    assert "nats.certificate" in complaint(nats__key="key.pem")
    assert "nats.credentials are both set" in complaint(nats__credentials="u.creds", nats__token="t")


def test_a_place_says_what_the_settings_say():
    given = {
        **ENGINE,
        "nats.prefix": "staging",
        "nats.replicas": 5,
        "nats.ca": "ca.pem",
        "nats.monitoring": "a.example:8222,http://b.example:8222/",
    }
    place = nats_place(Config.load(None, {}, given))
    assert (place.prefix, place.replicas, place.access.ca) == ("staging", 5, Path("ca.pem"))
    assert place.needs.monitoring == ("http://a.example:8222", "http://b.example:8222")
    assert place.needs.message_bytes > 4 << 20
