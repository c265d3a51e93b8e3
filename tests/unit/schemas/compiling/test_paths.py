from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.compiling.paths import check_paths, is_shared, path_problem


@pytest.mark.parametrize(
    "path",
    [
        "a.proto",
        "meetly/events/v1/invited.proto",
        "vendor/google/type/money.proto",
        "google/type/money.proto",
        "événement/ü.proto",
        "a b,c=d:e.proto",
        "...proto",
    ],
)
def test_a_path_that_means_one_file_everywhere_is_taken(path):
    check_paths([path])


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "empty"),
        ("a", "ends in '.proto'"),
        ("a.proto/", "segment"),
        ("/a.proto", "relative"),
        ("//host/a.proto", "relative"),
        ("C:/a.proto", "relative"),
        ("../a.proto", "segment"),
        ("a/../b.proto", "segment"),
        ("a/./b.proto", "segment"),
        ("a//b.proto", "segment"),
        ("a\\b.proto", "backslash"),
        ("..\\..\\b.proto", "backslash"),
        ("a\0.proto", "printable"),
        ("a\n.proto", "printable"),
        ("a\x1b[31m.proto", "printable"),
        ("\ud800.proto", "printable"),
        ("\u202egpj.proto", "printable"),
        ("-Ietc.proto", "begins neither"),
        ("--descriptor_set_out=x.proto", "begins neither"),
        ("@arguments.proto", "begins neither"),
        (f"{'a' * 251}.proto", "256 characters"),
        (f"{'é' * 200}.proto", "255 bytes"),
    ],
)
def test_a_path_that_cannot_stand_is_refused_with_what_is_wrong(path, problem):
    with pytest.raises(Invalid) as refusal:
        check_paths(["fine.proto", path])
    assert refusal.value.reason is Reason.SCHEMA_MALFORMED
    assert [violation.field for violation in refusal.value.violations] == ["files[1].path"]
    assert problem in refusal.value.violations[0].description
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "path", ["google/protobuf/any.proto", "Google/Protobuf/mine.proto", "certes/v1/options.proto", "certes/mine.proto"]
)
def test_what_is_everybodys_cannot_be_brought(path):
    assert is_shared(path)
    with pytest.raises(Invalid, match="everybody's"):
        check_paths([path])


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (["a.proto", "a.proto"], "given twice"),
        (["a.proto", "A.proto"], "in case only"),
        (["straße.proto", "STRASSE.proto"], "in case only"),
        (["a.proto", "a.proto/b.proto"], "cannot be a folder too"),
        (["a.proto/b.proto", "a.proto"], "is a folder of"),
        (["a.proto/b/c.proto", "A.proto"], "is a folder of"),
    ],
)
def test_paths_that_could_not_lie_side_by_side_are_refused(paths, problem):
    with pytest.raises(Invalid, match=problem):
        check_paths(paths)


def test_every_path_at_fault_is_named_and_the_list_ends():
    with pytest.raises(Invalid) as refusal:
        check_paths([f"/{number}.proto" for number in range(100)])
    assert len(refusal.value.violations) == 20
    assert "100" in refusal.value.message


@given(st.text(max_size=40) | st.from_regex(r"[a-z./\\-]{1,12}\.proto", fullmatch=True))
def test_what_is_taken_stays_below_the_folder_that_it_is_laid_in(path):
    if path_problem(path) is None:
        segments = path.split("/")
        assert not path.startswith("/")
        assert not {"", ".", ".."} & set(segments)
        assert path.isprintable()
        path.encode()
