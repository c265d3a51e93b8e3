from __future__ import annotations

import json

import pytest

from certes_broker.config import Config
from certes_broker.domain.sources import SourceSecret

CREATE = ["sources", "create", "github", "--provider", "github", "--audience", "everyone"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "certes.toml"


def load(file):
    return Config.load(file, {}, {})


def test_a_source_is_declared_in_a_new_file_that_only_its_owner_can_read(certes, file):
    result = certes(*CREATE, "--config", str(file))
    assert result.exit_code == 0
    (source,) = load(file).sources
    assert source.name == "github"
    assert len(source.secrets[0].secret) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert "http://127.0.0.1:9600/events/github" in result.stdout
    assert source.secrets[0].secret in result.stdout
    assert "SIGHUP" in result.stdout


def test_a_given_secret_is_written_and_not_printed(certes, file):
    result = certes(*CREATE, "--secret", "hush", "--config", str(file))
    assert load(file).sources[0].secrets == (SourceSecret("hush"),)
    assert "hush" not in result.output


def test_a_secret_can_be_asked_for(certes, file):
    result = certes(*CREATE, "--secret", "-", "--config", str(file), stdin="hush\n")
    assert load(file).sources[0].secrets == (SourceSecret("hush"),)
    assert "hush" not in result.output


@pytest.mark.parametrize("ending", ["", "\n"])
def test_what_stands_in_the_file_is_kept_to_the_letter(certes, file, ending):
    text = '# mine\n[http] # here\nlisten = "127.0.0.1:80"   # odd\n[log]\nlevel="debug"' + ending
    file.write_text(text, encoding="utf-8")
    file.chmod(0o640)
    result = certes(*CREATE, "--config", str(file))
    assert file.read_text(encoding="utf-8").startswith(text)
    assert "http://127.0.0.1:80/events/github" in result.stdout
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_second_source_joins_the_first(certes, file):
    certes(*CREATE, "--config", str(file))
    words = ["sources", "create", "other", "--provider", "github", "--audience", "subscribers/org_1"]
    certes(*words, "--config", str(file))
    assert [source.name for source in load(file).sources] == ["github", "other"]


def test_a_source_joins_those_that_are_written_inline(certes, file):
    inline = 'sources = [\n  {name = "a", provider = "github", audience = "everyone", secrets = ["x"]}, # first\n]\n'
    file.write_text(inline, encoding="utf-8")
    certes(*CREATE, "--config", str(file))
    assert [source.name for source in load(file).sources] == ["a", "github"]
    assert "# first" in file.read_text(encoding="utf-8")


def test_a_name_that_is_taken_is_refused_and_the_file_left_alone(certes, file):
    certes(*CREATE, "--config", str(file))
    before = file.read_text(encoding="utf-8")
    result = certes(*CREATE, "--config", str(file))
    assert result.exit_code == 4
    assert "already declares a source named 'github'" in result.stderr
    assert file.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Git Hub", "--provider", "github", "--audience", "everyone"], "no name for a source"),
        (
            ["github", "--provider", "github", "--audience", "all"],
            "an audience is 'everyone', 'subscriber_in_payload' or 'subscribers/ID'",
        ),
    ],
)
def test_a_source_that_could_not_be_loaded_is_not_written(certes, file, words, told):
    result = certes("sources", "create", *words, "--config", str(file))
    assert result.exit_code == 4
    assert told in result.stderr
    assert not file.exists()


def test_a_file_with_mistakes_is_not_touched(certes, file):
    file.write_text('listen = "x"\n', encoding="utf-8")
    result = certes(*CREATE, "--config", str(file))
    assert result.exit_code == 4
    assert ":1:1: listen is no known key" in result.stderr


def test_the_list_has_urls_and_no_secrets(certes, file):
    certes(*CREATE, "--secret", "hush", "--config", str(file))
    text = certes("sources", "list", "--config", str(file))
    assert text.stdout.splitlines()[1] == "github\tgithub\teveryone\t1\thttp://127.0.0.1:9600/events/github"
    document = certes("sources", "list", "--json", "--config", str(file))
    assert json.loads(document.stdout) == [
        {
            "name": "github",
            "provider": "github",
            "audience": "everyone",
            "url": "http://127.0.0.1:9600/events/github",
            "secretCount": 1,
        }
    ]


def test_a_created_source_as_json_has_the_secret_that_was_made(certes, file):
    result = certes(*CREATE, "--json", "--config", str(file))
    assert json.loads(result.stdout)["secret"] == load(file).sources[0].secrets[0].secret
