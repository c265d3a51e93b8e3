from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.config.quantities import Unfit, format_duration, format_size, parse_duration, parse_size
from certes_broker.config.toml_places import Place, find, places


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("17", 17), ("10GiB", 10 * 1024**3), ("64 MiB", 64 * 1024**2), ("1.5kb", 1500), ("2tib", 2 * 1024**4)],
)
def test_a_size_is_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "10 potatoes", "-1", "1e3", "1 2"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(Unfit, match="wants a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20", 20), ("20s", 20), ("7d", 604800), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), (" 2d 1s ", 172801)],
)
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "7 days", "1m1h", "1h1h", "-1s", "1h30", "s5"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(Unfit, match="wants a duration"):
        parse_duration(text)


@given(st.integers(0, 2**60))
def test_a_size_that_is_spelled_is_read_as_the_same(size):
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**6))
def test_a_duration_that_is_spelled_is_read_as_the_same(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-5)


TRICKY = r'''# [not]
a = "b # [c]"
"quo.ted" = 'x = "y"' # [no]
l = [ # [
  "]", [1, {z = 1}], # ]
]
ml = """
[not]
x = 1
\"""""
lit = """"""
raw = \'\'\'
[[not]]
\'\'\'\'\'
  [t] # x
  d.e . f = 1
[[s]]
n = 1
[s.inner]
m = 1
[[s]]
n = 2
["x]y"."z=w"]
u = {v = 1}'''.replace("\\'", "'")


def test_every_key_is_found_where_it_stands():
    tomllib.loads(TRICKY)
    lines = TRICKY.splitlines()
    found = places(TRICKY)
    begins = {path: lines[place.line - 1][place.column - 1 :] for path, place in found.items()}
    assert {path: begin[:4] for path, begin in begins.items()} == {
        ("a",): "a = ",
        ("quo.ted",): '"quo',
        ("l",): "l = ",
        ("ml",): "ml =",
        ("lit",): "lit ",
        ("raw",): "raw ",
        ("t",): "[t] ",
        ("t", "d"): "d.e ",
        ("t", "d", "e"): "d.e ",
        ("t", "d", "e", "f"): "d.e ",
        ("s",): "[[s]",
        ("s", 0): "[[s]",
        ("s", 0, "n"): "n = ",
        ("s", 0, "inner"): "[s.i",
        ("s", 0, "inner", "m"): "m = ",
        ("s", 1): "[[s]",
        ("s", 1, "n"): "n = ",
        ("x]y",): '["x]',
        ("x]y", "z=w"): '["x]',
        ("x]y", "z=w", "u"): "u = ",
    }
    assert found["s", 1, "n"].line > found["s", 0, "n"].line


def test_a_key_without_a_place_of_its_own_has_that_of_what_holds_it():
    found = places("a = 1\nb = {c = {d = 1}}\n")
    assert find(found, ("b", "c", "d")) == Place(2, 1)
    assert find(found, ("nowhere",)) == Place(1, 1)


@st.composite
def documents(draw):
    """Valid documents of tables, arrays of tables and keys, with values that look like structure."""
    values = st.sampled_from(['"#"', "'['", "[\n1, # ]\n]", "{x = ']'}", '"""\n[x]\n"""', "1 # [y]", "'''\n#'''"])
    lines: list[str] = []
    wanted = {}
    for number in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["", "[t{}]", "[[s]]"])) if number else ""
        path: tuple[str | int, ...] = ()
        if kind == "[[s]]":
            path = ("s", sum(line == "[[s]]" for line in lines))
            lines.append(kind)
        elif kind:
            path = (f"t{number}",)
            lines.append(kind.format(number))
        elif number:
            continue
        for key in draw(st.lists(st.sampled_from("abc"), unique=True)):
            wanted[*path, key] = sum(line.count("\n") + 1 for line in lines) + 1
            lines.append(f"{key} = {draw(values)}")
    return "\n".join(lines), wanted


@given(documents())
def test_keys_of_any_document_are_found_on_their_line(document):
    text, wanted = document
    tomllib.loads(text)
    found = places(text)
    assert {path: found[path].line for path in wanted} == wanted
