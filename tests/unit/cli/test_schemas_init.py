from __future__ import annotations

import re

import pytest

from certes_broker.cli.schemas_init import schema_path, starter
from certes_broker.domain.uris import parse_event_type


def test_it_writes_a_schema_and_what_tools_need_to_compile_it(certes, tmp_path):
    folder = tmp_path / "schemas"
    result = certes("schemas", "init", str(folder), "--domain", "events.github.com", "--event", "push")
    assert result.exit_code == 0
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert written == ["buf.yaml", "certes/v1/options.proto", "github/events/v1/push_event.proto"]
    assert f"wrote {folder}/github/events/v1/push_event.proto" in result.stdout
    assert result.stdout.endswith(f"certes schemas push {folder}\n")


def test_called_again_it_adds_another_event_and_keeps_what_is_there(certes, tmp_path):
    certes("schemas", "init", str(tmp_path))
    (tmp_path / "buf.yaml").write_text("version: v2\n")
    result = certes("schemas", "init", str(tmp_path), "--event", "account_closed")
    assert result.exit_code == 0
    assert f"kept  {tmp_path}/buf.yaml" in result.stdout
    assert (tmp_path / "buf.yaml").read_text() == "version: v2\n"
    assert (tmp_path / "example/events/v1/account_closed_event.proto").exists()


def test_a_schema_that_is_there_is_never_overwritten(certes, tmp_path):
    certes("schemas", "init", str(tmp_path))
    schema = tmp_path / "example/events/v1/account_changed_event.proto"
    schema.write_text("mine")
    result = certes("schemas", "init", str(tmp_path))
    assert result.exit_code == 2
    assert "stays as it is" in result.stderr
    assert schema.read_text() == "mine"


def test_nothing_is_written_through_a_link(certes, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "example").symlink_to(outside)
    result = certes("schemas", "init", str(tmp_path / "schemas"))
    assert result.exit_code == 2
    assert "symbolic link" in result.stderr
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "schemas" / "buf.yaml").exists()


def test_it_goes_into_the_module_that_a_buf_yaml_names(certes, tmp_path):
    (tmp_path / "buf.yaml").write_text("version: v2\nmodules:\n  - path: proto\n")
    result = certes("schemas", "init", str(tmp_path))
    assert result.exit_code == 0
    assert (tmp_path / "proto/example/events/v1/account_changed_event.proto").exists()
    assert (tmp_path / "proto/certes/v1/options.proto").exists()


def test_of_several_modules_it_asks_for_one(certes, tmp_path):
    (tmp_path / "buf.yaml").write_text('version: v2\nmodules:\n  - path: "a"\n  - name: buf.build/x/b\n    path: b\n')
    result = certes("schemas", "init", str(tmp_path))
    assert result.exit_code == 2
    assert f"which of {tmp_path / 'a'}, {tmp_path / 'b'} is meant" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--domain", "no domain"], "malformed"),
        (["--namespace", "A"], "malformed"),
        (["--event", "Push"], "malformed"),
        (["--event", "_push"], "system event"),
        (["--version", "0"], "--version"),
    ],
)
def test_what_is_no_event_uri_is_a_mistake(certes, tmp_path, words, said):
    result = certes("schemas", "init", str(tmp_path), *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("event_type", "path", "message"),
    [
        ("events.github.com/_/1/push", "github/events/v1/push_event.proto", "PushEvent"),
        ("events.meetly.com/rooms/small/3/my_event", "meetly/events/rooms/small/v3/my_event.proto", "MyEvent"),
        ("my-shop.example/3d/1/2d", "my_shop/n3d/v1/2d_event.proto", "Event2d"),
        ("localhost/_/1/a", "localhost/v1/a_event.proto", "AEvent"),
        # Packages of these names are everybody's.
        ("events.certes.dev/_/1/a", "certes_events/events/v1/a_event.proto", "AEvent"),
        ("google.com/_/1/a", "google_events/v1/a_event.proto", "AEvent"),
    ],
)
def test_package_and_message_are_named_after_the_event_uri(event_type, path, message):
    parsed = parse_event_type(event_type)
    text = starter(parsed)
    assert schema_path(parsed) == path
    assert f"package {path.rpartition('/')[0].replace('/', '.')};" in text
    assert re.findall("^message (\\w+)", text, re.MULTILINE) == [message]
