from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from certes_broker.config import Address, Config, known_settings
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.sources import Everyone, Source, SourceSecret

SOURCE = '[[sources]]\nname = "github"\nprovider = "github"\naudience = "everyone"\n'


@pytest.fixture
def load(tmp_path):
    """Loads settings from a text as if it stood in `certes.toml`."""
    file = tmp_path / "certes.toml"

    def load_text(text="", environ=None, overrides=None):
        file.write_text(text, encoding="utf-8")
        return Config.load(file, environ or {}, overrides or {})

    return load_text


def complaint(load, text="", environ=None, overrides=None) -> str:
    """Returns what is said of settings that cannot be used."""
    with pytest.raises(Invalid) as caught:
        load(text, environ, overrides)
    assert caught.value.reason is Reason.SETTINGS_INVALID
    return str(caught.value)


class TestPrecedence:
    def test_without_anything_there_are_defaults(self):
        config = Config.load(None, {}, {})
        assert config == Config()
        assert config.http.listen == Address("127.0.0.1", 9600)
        assert config.limits.event_bytes == 1024 * 1024
        assert config.retention.age == 7 * 86400

    def test_a_file_wins_over_the_default(self, load):
        config = load('data_dir = "d"\n[http]\nlisten = "[::1]:0"\n[webhooks]\nallow_networks = ["10.0.0.0/8"]\n')
        assert config.data_dir == Path("d")
        assert config.http.listen == Address("::1", 0)
        assert config.webhooks.allow_networks == (ip_network("10.0.0.0/8"),)

    def test_the_environment_wins_over_a_file_and_the_command_line_over_both(self, load):
        text = '[log]\nlevel = "debug"\n'
        assert load(text, {"CERTES_LOG_LEVEL": "error"}).log.level == "error"
        assert load(text, {"CERTES_LOG_LEVEL": "error"}, {"log.level": "warning"}).log.level == "warning"

    @pytest.mark.parametrize("setting", known_settings(), ids=lambda setting: setting.key)
    def test_every_key_can_be_set_by_its_default_in_a_file_and_in_the_environment(self, load, setting):
        *section, key = setting.path
        spelled = setting.kind.spell(setting.default)
        assert load("".join(f"[{name}]\n" for name in section) + f"{key} = {spelled}\n") == Config()
        bare = spelled.strip("[]").replace('"', "")
        assert load("", {setting.variable: bare}) == Config()

    def test_lists_have_commas_in_the_environment(self, load):
        assert load("", {"CERTES_ALLOWED_HOSTS": "A.example, b.example:80"}).allowed_hosts == (
            "a.example",
            "b.example:80",
        )

    def test_reloading_reads_the_same_file_environment_and_command_line_again(self, load, tmp_path):
        config = load(SOURCE, {"CERTES_SOURCE_GITHUB_SECRETS": "x", "CERTES_DEV": "true"}, {"ready_json": True})
        (tmp_path / "certes.toml").write_text(SOURCE.replace("everyone", "subscribers/o"), encoding="utf-8")
        again = config.reload()
        assert again.sources[0].audience == SubscriberName("o")
        assert again.dev
        assert again.ready_json


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("dta_dir = 1", "certes.toml:1:1: dta_dir is no known key. Did you mean data_dir?"),
            ("\n[http]\n  listn = 1", "certes.toml:3:3: http.listn is no known key. Did you mean http.listen?"),
            ("[htpp]\nx = 1", "certes.toml:1:1: htpp is no known key. Did you mean http?"),
            ("[http]\ndev = true", "http.dev is no known key. Did you mean dev? It belongs above the first [section]."),
            ("age = 1", "certes.toml:1:1: age is no known key. Did you mean retention.age?"),
            ("zzzzz = 1", "zzzzz is no known key."),
            ("http = 1", "http is a section: write [http] and its keys below"),
            ("dev = 1", "dev wants true or false, not 1"),
            ("data_dir = true", "data_dir wants a text in quotes, not true"),
            ('[http]\nlisten = "9600"', "http.listen wants an address such as"),
            ('[http]\nlisten = "127.0.0.1:70000"', "wants a port from 0 to 65535, not 70000"),
            ('domain = "http://x"', "wants a DNS name without a scheme"),
            ('domain = "a_b.c"', "domain wants a DNS name, not 'a_b.c'"),
            ('allowed_hosts = "x"', "allowed_hosts wants a list in brackets, not 'x'"),
            ('allowed_hosts = ["http://x"]', "allowed_hosts wants host names such as"),
            ('[webhooks]\nallow_networks = ["10.0.0.1/8"]', "wants networks such as"),
            ("[webhooks]\nmax_in_flight = 0", "webhooks.max_in_flight is at least 1, not 0"),
            ("[webhooks]\nmax_in_flight = true", "wants a whole number, not true"),
            ('[limits]\nevent_bytes = "4MiB"', 'limits.event_bytes is at most "3MiB", not "4MiB"'),
            ("[limits]\nevent_bytes = -1", "wants a size"),
            ('[retention]\nage = "7 days"', "wants a duration"),
            ("[retention]\nage = inf", "wants a duration"),
            ('[log]\nlevel = "loud"', 'log.level wants one of "debug", "info", "warning", "error", not \'loud\''),
            ("sources = 1", "sources wants [[sources]] tables"),
            ("a = = b", "is no valid TOML"),
        ],
    )  # fmt: skip
    def test_a_mistake_in_the_file_is_told_with_its_place(self, load, text, told):
        assert told in complaint(load, text)

    def test_all_mistakes_are_told_at_once(self, load):
        with pytest.raises(Invalid) as caught:
            load("dev = 1\nx = 2\n[log]\nlevel = 3\n", {"CERTES_GRPC_LISTEN": "y"})
        assert {violation.field for violation in caught.value.violations} == {"dev", "x", "log.level", "grpc.listen"}
        assert "4 things are wrong" in str(caught.value)

    def test_a_mistake_in_the_environment_names_the_variable(self, load):
        assert "the environment variable CERTES_DEV: dev wants" in complaint(load, "", {"CERTES_DEV": "maybe"})

    def test_a_mistake_on_the_command_line_says_so(self, load):
        assert "the command line: http.listen wants" in complaint(load, "", {}, {"http.listen": "x"})

    def test_a_variable_that_nearly_spells_a_key_is_a_mistake(self, load):
        told = complaint(load, "", {"CERTES_DATADIR": "x"})
        assert "CERTES_DATADIR: is no setting. Did you mean CERTES_DATA_DIR?" in told

    def test_variables_that_others_put_there_are_left_alone(self, load):
        kubernetes = {"CERTES_SERVICE_HOST": "10.0.0.1", "CERTES_PORT": "tcp://10.0.0.1:9600", "CERTES_BROKER": "x"}
        assert load("", kubernetes) == Config()

    def test_limits_that_contradict_each_other_are_a_mistake(self, load):
        told = complaint(load, '[limits]\nevent_bytes = "2MiB"\nrequest_bytes = "1MiB"\n')
        assert "certes.toml:3:1: limits.request_bytes is smaller than limits.event_bytes" in told

    @pytest.mark.parametrize(
        ("tls", "told"),
        [
            ('certificate = "a.pem"', "tls.certificate is of no use without tls.key"),
            ('key = "a.key"', "tls.key is of no use without tls.certificate"),
            ('client_ca = "ca.pem"', "tls.client_ca is of no use without tls.certificate"),
        ],
    )
    def test_half_of_what_tls_needs_is_a_mistake(self, load, tls, told):
        assert told in complaint(load, f"[tls]\n{tls}")

    def test_two_servers_cannot_share_a_port(self, load):
        assert "each needs its own port" in complaint(load, '[grpc]\nlisten = "127.0.0.1:9600"\n')

    def test_a_file_that_does_not_exist_is_told_by_name(self, tmp_path):
        with pytest.raises(Invalid, match=r"none\.toml does not exist"):
            Config.load(tmp_path / "none.toml", {}, {})

    def test_a_file_that_is_not_utf_8_is_told_by_name(self, tmp_path):
        (tmp_path / "x.toml").write_bytes(b"\xff")
        with pytest.raises(Invalid, match="not UTF-8"):
            Config.load(tmp_path / "x.toml", {}, {})


OPERATOR_KEY = f"certes_root_{'s3cret-' * 6}"


class TestListening:
    @pytest.mark.parametrize("address", ["0.0.0.0:9600", "[::]:9600", "10.0.0.1:80", "example.com:80"])
    def test_anything_but_loopback_is_refused_with_the_reason(self, load, address):
        with pytest.raises(Invalid) as caught:
            load(f'[http]\nlisten = "{address}"\n')
        assert caught.value.reason is Reason.INSECURE_LISTENER
        assert (
            "no authentication (auth.operator_key, auth.jwt_issuer or [[auth.certificates]]) and no TLS (tls.certificate)"
            in str(caught.value)
        )
        assert "allow_insecure = true" in str(caught.value)
        assert "certes.toml:2:1" in str(caught.value)

    def test_authentication_alone_does_not_make_it_safe(self, load):
        with pytest.raises(Invalid, match="this broker has no TLS") as caught:
            load(f'[http]\nlisten = "0.0.0.0:9600"\n[auth]\noperator_key = "{OPERATOR_KEY}"\n')
        assert OPERATOR_KEY not in str(caught.value)

    def test_tls_alone_does_not_make_it_safe_and_both_do(self, load):
        both = f'[tls]\ncertificate = "c.pem"\nkey = "k.pem"\n[auth]\noperator_key = "{OPERATOR_KEY}"\n'
        with pytest.raises(Invalid, match="this broker has no authentication"):
            load('[http]\nlisten = "0.0.0.0:9600"\n' + both.partition("[auth]")[0])
        assert load('[http]\nlisten = "0.0.0.0:9600"\n' + both).http.listen.port == 9600

    def test_who_says_that_the_network_is_protected_is_believed(self, load):
        assert load('allow_insecure = true\n[http]\nlisten = "0.0.0.0:9600"\n').http.listen.port == 9600

    @pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.9.1:80", "[::1]:80", "localhost:80"])
    def test_loopback_is_fine(self, load, address):
        assert load(f'[grpc]\nlisten = "{address}"\n').grpc.listen.text == address


class TestSources:
    def test_a_source_has_its_secrets_and_audience(self, load):
        config = load(f'{SOURCE}secrets = ["new", "old"]\n')
        assert config.sources == (
            Source("github", "github", Everyone(), (SourceSecret("new"), SourceSecret("old")), configured=True),
        )
        assert config.sources[0].event_source == "sources/github"

    def test_secrets_of_the_environment_replace_those_of_the_file(self, load):
        config = load(f'{SOURCE}secrets = ["old"]\n', {"CERTES_SOURCE_GITHUB_SECRETS": "a, b"})
        assert config.sources[0].secrets == (SourceSecret("a"), SourceSecret("b"))

    def test_secrets_are_never_shown(self, load):
        config = load(f'{SOURCE}secrets = ["hush"]\n', {"CERTES_SOURCE_GITHUB_SECRETS": "hush"})
        assert "hush" not in repr(config)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (SOURCE, "certes.toml:1:1: sources[0].secrets is missing, here and as CERTES_SOURCE_GITHUB_SECRETS"),
            (f"{SOURCE}secrets = []", "sources[0].secrets is missing"),
            (f'{SOURCE}secrets = "x"', "sources[0].secrets wants a list"),
            (f'{SOURCE}secrets = [""]', "sources[0].secrets wants a list of texts in quotes, none of them empty"),
            (f'{SOURCE}secrts = ["x"]', "certes.toml:5:1: sources[0].secrts is no key of a source. Did you mean secrets?"),
            ('[[sources]]\nname = "x"\n', "sources[0].audience is missing"),
            (SOURCE.replace("everyone", "all"), "certes.toml:4:1: sources[0].audience cannot be used"),
            (SOURCE.replace('r = "github"', 'r = "gitlab"'), "sources[0].provider is no provider that this broker knows"),
            (SOURCE.replace('e = "github"', 'e = "Git Hub"'), "sources[0].name cannot be used"),
            (f'{SOURCE}secrets=["x"]\n{SOURCE}secrets=["x"]\n', "certes.toml:7:1: sources[1].name is taken"),
            ("sources = [1]", "sources wants [[sources]] tables"),
        ],
    )  # fmt: skip
    def test_a_mistake_in_a_source_is_told_with_its_place(self, load, text, told):
        assert told in complaint(load, text)

    def test_a_mistaken_secret_is_not_repeated(self, load):
        assert "31337" not in complaint(load, f"{SOURCE}secrets = [31337]")

    def test_secrets_for_a_source_that_is_not_declared_are_a_mistake(self, load):
        told = complaint(load, f'{SOURCE}secrets = ["x"]\n', {"CERTES_SOURCE_GITHUBB_SECRETS": "x"})
        assert "belongs to no source. Did you mean CERTES_SOURCE_GITHUB_SECRETS?" in told
