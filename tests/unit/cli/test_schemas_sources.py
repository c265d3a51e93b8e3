from __future__ import annotations

from contextlib import chdir

import click
import pytest

from certes_broker.cli.schemas_sources import collect
from certes_broker.cli.schemas_submission import SourceSubmission
from certes_broker.domain.errors import FieldViolation


def write(folder, *paths):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"// {path}")


def paths(*places):
    return [source.path for source in collect(places)]


def test_paths_are_relative_to_the_folder_that_is_named(tmp_path):
    write(tmp_path, "a/v1/x.proto", "a/v1/y.txt", "b.proto")
    assert paths(tmp_path) == ["a/v1/x.proto", "b.proto"]
    assert paths(tmp_path / "a") == ["v1/x.proto"]


def test_a_buf_yaml_makes_its_folder_the_root_of_all_below(tmp_path):
    write(tmp_path, "buf.yaml", "a/v1/x.proto", "b.proto")
    assert paths(tmp_path / "a") == ["a/v1/x.proto"]
    assert paths(tmp_path / "a/v1/x.proto") == ["a/v1/x.proto"]


def test_the_nearest_buf_yaml_counts(tmp_path):
    write(tmp_path, "buf.yaml", "x.proto", "inner/buf.yaml", "inner/a/y.proto")
    assert paths(tmp_path) == ["a/y.proto", "x.proto"]


def test_modules_that_a_buf_yaml_names_are_roots_and_what_is_beside_them_is_left_out(tmp_path):
    write(tmp_path, "one/a/x.proto", "two/b/y.proto", "test/z.proto")
    (tmp_path / "buf.yaml").write_text("version: v2\nmodules:\n  - path: one # ours\n  - path: 'two'\n")
    assert paths(tmp_path) == ["a/x.proto", "b/y.proto"]
    assert paths(tmp_path / "two/b") == ["b/y.proto"]
    with pytest.raises(click.UsageError, match=r"no \.proto file"):
        collect([tmp_path / "test"])


def test_copies_of_what_every_broker_has_are_left_out(tmp_path):
    write(tmp_path, "a.proto", "certes/v1/options.proto", "google/protobuf/any.proto", "google/type/money.proto")
    assert paths(tmp_path) == ["a.proto", "google/type/money.proto"]


def test_hidden_folders_and_those_of_installed_modules_are_left_out(tmp_path):
    write(tmp_path, "a.proto", ".venv/b.proto", "node_modules/c/d.proto")
    assert paths(tmp_path) == ["a.proto"]


def test_a_file_that_is_met_twice_is_taken_once(tmp_path):
    write(tmp_path, "buf.yaml", "a/x.proto")
    assert paths(tmp_path, tmp_path / "a", tmp_path / "a/x.proto") == ["a/x.proto"]


def test_without_a_buf_yaml_the_root_of_a_file_is_the_current_folder(tmp_path):
    write(tmp_path, "a/x.proto")
    with pytest.raises(click.UsageError, match="not below the current folder"):
        collect([tmp_path / "a/x.proto"])
    with chdir(tmp_path):
        assert paths(tmp_path / "a/x.proto") == ["a/x.proto"]


def test_a_link_to_a_folder_is_not_followed(tmp_path):
    write(tmp_path, "a/x.proto")
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    assert paths(tmp_path) == ["a/x.proto"]


def test_nothing_to_send_is_a_mistake(tmp_path):
    with pytest.raises(click.UsageError, match="schemas init"):
        collect([tmp_path])


def test_more_than_a_broker_takes_is_not_sent(tmp_path):
    (tmp_path / "a.proto").write_bytes(b" " * (1 << 20))
    assert paths(tmp_path) == ["a.proto"]
    (tmp_path / "b.proto").write_bytes(b" ")
    with pytest.raises(click.UsageError, match="2 files have 1048577 bytes"):
        collect([tmp_path])


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.proto").write_bytes(b"//\xff")
    with pytest.raises(click.UsageError, match=r"a\.proto is not UTF-8, at byte 2"):
        collect([tmp_path])


def test_faults_name_files_as_they_lie_here(tmp_path):
    write(tmp_path, "a/x.proto", "b.proto")
    submission = SourceSubmission(collect([tmp_path]))
    violations = [
        FieldViolation("files[0]", 'a/x.proto:3:1: "strin" is not defined.'),
        FieldViolation("files[1].path", "cannot stand"),
        FieldViolation("elsewhere.proto", "elsewhere.proto: is gone"),
    ]
    assert list(submission.faults(violations)) == [
        f'{tmp_path}/a/x.proto:3:1: "strin" is not defined.',
        f"{tmp_path}/b.proto: cannot stand",
        "elsewhere.proto: elsewhere.proto: is gone",
    ]
