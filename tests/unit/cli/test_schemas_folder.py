from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.cli.schemas_folder import Obstructed, UnsafePath, plan


@pytest.mark.parametrize(
    "path",
    [
        "../a.proto",
        "/etc/a.proto",
        "a/../../b.proto",
        "a//b.proto",
        "./a.proto",
        "a\\b.proto",
        "c:/a.proto",
        "a\0.proto",
        "a\n.proto",
        ".bashrc",
        "a.sh",
        "",
        "-a.proto",
    ],
)
def test_a_path_that_leads_outside_or_is_no_schema_is_refused_before_anything_is_written(tmp_path, path):
    folder = tmp_path / "out"
    with pytest.raises(UnsafePath):
        plan(folder, {"good.proto": b"", path: b"x"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "paths", [("a.proto", "A.proto"), ("a.proto", "a.proto/b.proto"), ("A.proto/b.proto", "a.proto")]
)
def test_paths_that_cannot_lie_side_by_side_are_refused(tmp_path, paths):
    with pytest.raises(UnsafePath):
        plan(tmp_path, dict.fromkeys(paths, b""))


@pytest.mark.parametrize("link", ["a", "a/b.proto"])
def test_a_link_in_the_folder_is_not_passed(tmp_path, link):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "out"
    (folder / link).parent.mkdir(parents=True)
    (folder / link).symlink_to(outside / "b.proto" if link.endswith(".proto") else outside)
    with pytest.raises(Obstructed, match="symbolic link"):
        plan(folder, {"a/b.proto": b"x"})


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    plan(tmp_path / "out", {"a/b.proto": b"x"}).write()
    assert (tmp_path / "real/a/b.proto").read_bytes() == b"x"


@pytest.mark.parametrize("place", ["a", "a/b.proto"])
def test_what_is_in_the_way_is_told(tmp_path, place):
    if place == "a":
        (tmp_path / "a").write_text("")
    else:
        (tmp_path / place).mkdir(parents=True)
    with pytest.raises(Obstructed):
        plan(tmp_path, {"a/b.proto": b"x"})


def test_what_is_there_with_other_content_stays_unless_it_may_be_replaced(tmp_path):
    plan(tmp_path, {"same.proto": b"1", "other.proto": b"1"}).write()
    found = plan(tmp_path, {"same.proto": b"1", "other.proto": b"2", "new.proto": b"3"})
    assert (list(found.new), list(found.other), list(found.same)) == (["new.proto"], ["other.proto"], ["same.proto"])
    assert found.write() == ["new.proto"]
    assert (tmp_path / "other.proto").read_bytes() == b"1"
    assert found.write(replace=True) == ["new.proto", "other.proto"]
    assert (tmp_path / "other.proto").read_bytes() == b"2"


segments = st.sampled_from(["..", ".", "", "a", "b.proto", "A", "~", "*", "\0", "\\", "c:", "..proto", ".proto"])
paths = st.lists(segments, max_size=5).map("/".join) | st.text(string.printable, max_size=20)


@given(st.dictionaries(paths | paths.map("{}.proto".format), st.binary(max_size=3), max_size=5))
def test_whatever_paths_are_given_all_is_written_below_the_folder_or_nothing_is_written(files):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in" / "out"
        try:
            plan(folder, files).write()
        except UnsafePath:
            assert list(Path(name).iterdir()) == []
        found = {path: path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}
        assert all(path.is_relative_to(folder) for path in found)
        assert len(found) in (0, len(files))
        assert set(found.values()) <= set(files.values())
