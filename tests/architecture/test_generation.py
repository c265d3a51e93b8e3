"""Stubs are an exact function of `proto/`: whatever was in their folders before, what is generated is there after."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from scripts.python_stubs import is_hollow
from scripts.stub_trees import StubTree, compare, read_tree, write

paths = st.builds(
    lambda folders, name: PurePosixPath(*folders, f"{name}_pb2.py"),
    st.lists(st.sampled_from(["v1", "community", "github"]), max_size=3),
    st.sampled_from(["event", "push", "issue"]),
)
trees = st.dictionaries(paths, st.binary(max_size=4), max_size=8)


def make(root: Path, files: dict[PurePosixPath, bytes], suffix: str = "") -> None:
    tree = StubTree("Python", root, files, suffix)
    write(tree, compare(tree))


@given(before=trees, wanted=trees)
def test_after_writing_the_stubs_are_what_was_generated(before, wanted) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        make(root, before)
        tree = StubTree("Python", root, wanted)
        changes = compare(tree)
        write(tree, changes)
        assert read_tree(root) == wanted
        assert not compare(tree).any
        assert [folder for folder in root.rglob("*") if folder.is_dir() and not any(folder.iterdir())] == []
        differing = {path for path in before.keys() | wanted.keys() if before.get(path) != wanted.get(path)}
        assert len(changes.lines()) == len(differing)


def test_a_removed_package_takes_what_python_cached_there_along(tmp_path: Path) -> None:
    stale = PurePosixPath("community/gone/v1/event_pb2.py")
    kept = {PurePosixPath("v1/event_pb2.py"): b""}
    make(tmp_path, {stale: b"", **kept})
    cache = tmp_path / stale.parent / "__pycache__"
    cache.mkdir()
    (cache / "event_pb2.cpython-311.pyc").touch()
    make(tmp_path, kept)
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


def test_what_is_not_generated_is_left_alone(tmp_path: Path) -> None:
    """The Go stubs of a provider share a package with what is written by hand."""
    (tmp_path / "options.go").write_bytes(b"package github")
    make(tmp_path, {PurePosixPath("event.pb.go"): b"1", PurePosixPath("gone.pb.go"): b"2"}, ".pb.go")
    make(tmp_path, {PurePosixPath("event.pb.go"): b"1"}, ".pb.go")
    assert {path.name for path in tmp_path.iterdir()} == {"options.go", "event.pb.go"}


def test_a_proto_without_services_has_no_service_stubs() -> None:
    assert is_hollow(PurePosixPath("v1/event_pb2_grpc.py"), b"import grpc\n")
    assert not is_hollow(PurePosixPath("v1/event_service_pb2_grpc.py"), b"class EventServiceStub(object):\n")
    assert not is_hollow(PurePosixPath("v1/event_pb2.py"), b"")
