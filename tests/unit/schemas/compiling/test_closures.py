from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.compiling.closures import imports_of, ordered


def files(**imports: list[str]) -> dict[str, FileDescriptorProto]:
    return {path: FileDescriptorProto(name=path, dependency=wanted) for path, wanted in imports.items()}


def order(known: dict[str, FileDescriptorProto], *wanted: str) -> list[str]:
    return [file.name for file in ordered(known, wanted)]


def test_a_file_comes_after_what_it_imports_and_what_nobody_imports_is_left_out():
    assert order(files(a=["b", "c"], b=["c"], c=[], d=[]), "a") == ["c", "b", "a"]


def test_an_import_for_options_is_an_import():
    file = FileDescriptorProto(name="a", dependency=["c"], option_dependency=["b"])
    assert imports_of(file) == ["b", "c"]


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_the_order_does_not_depend_on_that_of_the_set(pairs, random):
    edges = [(str(upper), str(lower)) for upper, lower in pairs if upper > lower]
    known = {str(path): FileDescriptorProto(name=str(path)) for path in range(13)}
    for importer, imported in edges:
        known[importer].dependency.append(imported)
    shuffled = list(known)
    random.shuffle(shuffled)
    found = order(known, *known)
    assert order({path: known[path] for path in shuffled}, *shuffled) == found
    assert sorted(found) == sorted(known)
    assert all(found.index(imported) < found.index(importer) for importer, imported in edges)


def test_a_chain_may_be_as_long_as_the_set():
    length = 5000
    known = files(**{f"f{number}": [f"f{number + 1}"] for number in range(length)}, **{f"f{length}": []})
    assert order(known, "f0")[0] == f"f{length}"


@pytest.mark.parametrize(
    ("imports", "way"),
    [
        ({"a": ["a"]}, "'a' → 'a'"),
        ({"a": ["b"], "b": ["a"]}, "'a' → 'b' → 'a'"),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, "'b' → 'c' → 'b'"),
    ],
)
def test_files_that_import_each_other_are_named(imports, way):
    with pytest.raises(Invalid) as refusal:
        ordered(files(**imports), ["a"])
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED
    assert f"{way}." in refusal.value.message


def test_a_long_circle_is_named_in_short():
    with pytest.raises(Invalid) as refusal:
        ordered(files(**{f"f{number}": [f"f{(number + 1) % 500}"] for number in range(500)}), ["f0"])
    assert "'f0' → 'f1'" in refusal.value.message
    assert "…" in refusal.value.message
    assert len(refusal.value.message) < 200


def test_an_import_that_is_missing_is_named_with_who_wants_it():
    with pytest.raises(Invalid, match="'c', which 'b' imports, is missing") as refusal:
        ordered(files(a=["b"], b=["c"]), ["a"], hint="Bring it.")
    assert refusal.value.hint == "Bring it."
