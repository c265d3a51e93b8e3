"""`generated/` is an exact function of `proto/`: whatever was there before, what is generated is there after."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from scripts.protos import compare, is_hollow, read_tree, write

paths = st.builds(
    lambda folders, name: PurePosixPath(*folders, f"{name}_pb2.py"),
    st.lists(st.sampled_from(["v1", "community", "github"]), max_size=3),
    st.sampled_from(["event", "push", "issue"]),
)
trees = st.dictionaries(paths, st.binary(max_size=4), max_size=8)


@given(before=trees, wanted=trees)
def test_after_writing_the_stubs_are_what_was_generated(before, wanted) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write(root, before, compare(before, {}))
        changes = compare(wanted, read_tree(root))
        write(root, wanted, changes)
        assert read_tree(root) == wanted
        assert not compare(wanted, read_tree(root)).any
        assert [folder for folder in root.rglob("*") if folder.is_dir() and not any(folder.iterdir())] == []
        assert len(changes.lines()) + changes.unchanged == len(before.keys() | wanted.keys())


def test_a_removed_package_takes_what_python_cached_there_along(tmp_path: Path) -> None:
    stale = PurePosixPath("community/gone/v1/event_pb2.py")
    kept = {PurePosixPath("v1/event_pb2.py"): b""}
    write(tmp_path, {stale: b"", **kept}, compare({stale: b"", **kept}, {}))
    cache = tmp_path / stale.parent / "__pycache__"
    cache.mkdir()
    (cache / "event_pb2.cpython-311.pyc").touch()
    write(tmp_path, kept, compare(kept, read_tree(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


def test_a_proto_without_services_has_no_service_stubs() -> None:
    assert is_hollow(PurePosixPath("v1/event_pb2_grpc.py"), b"import grpc\n")
    assert not is_hollow(PurePosixPath("v1/event_service_pb2_grpc.py"), b"class EventServiceStub(object):\n")
    assert not is_hollow(PurePosixPath("v1/event_pb2.py"), b"")
