"""JSON is read strictly: what is refused, with which path, and that nothing else is."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.json_paths import LONGEST_PATH
from certes_broker.schemas.json_text import MAXIMUM_NESTING, read_json, read_object

REASON = Reason.PAYLOAD_MALFORMED
TWICE = "twice"


def read(body: bytes | str) -> object:
    return read_json(body.encode() if isinstance(body, str) else body, REASON)


def refusal(body: bytes | str) -> Invalid:
    with pytest.raises(Invalid) as refused:
        read(body)
    assert refused.value.reason is REASON
    return refused.value


def field(body: bytes | str) -> str:
    """The path that a refusal of the body names; empty if it names none."""
    fields = [violation.field for violation in refusal(body).violations]
    assert len(fields) <= 1
    return "".join(fields)


# A document must not mean two things.

# Few characters, and those that could be mistaken for the end of a key.
CHARACTERS = st.sampled_from('ab":\\ {}[],\né\U0001f600')
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t ", " \r\n"])


@st.composite
def spelled_strings(draw: st.DrawFn) -> str:
    """A string as JSON, with some of its characters spelled as escapes."""
    spelled = []
    for character in draw(st.lists(CHARACTERS, max_size=3)):
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        escaped = "".join(
            f"\\u{unit:04{draw(st.sampled_from('xX'))}}" for unit in memoryview(character.encode("utf-16-le")).cast("H")
        )
        spelled.append(draw(st.sampled_from([plain, plain, escaped])))
    return f'"{"".join(spelled)}"'


@st.composite
def spelled_objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    members = []
    for _ in range(draw(st.integers(0, 4))):
        before, after, end = draw(SPACES), draw(SPACES), draw(SPACES)
        members.append(f"{draw(spelled_strings())}{before}:{after}{draw(inner)}{end}")
    return f"{{{draw(SPACES)}{','.join(members)}}}"


TEXTS = st.recursive(
    st.sampled_from(["1", "-0.5", "1e3", "true", "null", "{}", "[]"]) | spelled_strings(),
    lambda inner: spelled_objects(inner) | st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=12,
)


def by_looking_at_every_object(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise KeyError
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=once)
    except KeyError:
        return TWICE


@given(TEXTS)
@example('{"a":1,"a":2}')
@example('{"a":1,"a":2,"b" :3}')
@example('{"a":1,"\\u0061":2}')
@example('{"a":{"b":1,"c":":"},"a":"\\":\\":"}')
@example('{"a":1,"a":2,"b":"\\u003a"}')
@example('{"a":1,"a":2,"\\u003A":3}')
@example('{"a":":","a":"::","b":"\\u003a\\u003a\\u003a"}')
@example('{"\\\\u003a":1,"a":1}')
def test_a_key_that_an_object_has_twice_is_found_whatever_its_spelling(text):
    expected = by_looking_at_every_object(text)
    if expected is TWICE:
        assert "twice" in refusal(text).message
    else:
        assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a":1,"a":2}', "a"),
        ('{"commits":[{"id":1},{"author":{"name":"a","n":0,"name":"b"}}]}', "commits[1].author.name"),
        ('[[{"a":1,"a":1}]]', "[0][0].a"),
        ('{"a":{"b":1,"b":2},"a":3}', "a"),
        ('{"\\n":1,"\\u000a":2}', "\\n"),
    ],
)
def test_a_refusal_says_which_key_is_there_twice(text, path):
    assert field(text) == path


# What is no JSON.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"a":1}x',
        b'{"a":1}{"a":1}',
        b"{}\x00",
        b"{'a':1}",
        b'{"a":01}',
        b"[1,]",
        b'{"a":1,}',
        b"// {}",
    ],
)
def test_what_is_no_json_is_refused(body):
    assert refusal(body).metadata["line"] == "1"


@pytest.mark.parametrize(
    "value",
    [
        *(b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"9" * 400),
        *(b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\x80"'),
        *(b'"\\ud800"', b'"\\udc00 "', b'"\\ud800\\u0041"', b'"\\u12"'),
        *(b'"\x00"', b'"\n"', b'"\x1f"', b"\x00"),
    ],
)
def test_a_value_that_json_cannot_hold_is_refused_with_its_path(value):
    assert field(b'{"commits":[{},{"author":{"a":[1,2],"name":' + value + b"}}]}") == "commits[1].author.name"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a":{"b":1} "c"}', "a"),
        ('{"a":{"b":[1,2', "a.b[1]"),
        ('{"a":{"b":[1,{},{"c', "a.b[2]"),
        ('{"a":{"b":"x', "a.b"),
        ('{"a":1,"b"', "b"),
        ('{"a":1,', ""),
        ('{"a\\"b":{"ü":x}}', 'a"b.ü'),
        ('{"a":"]}{[,\\\\","b":[x', "b[0]"),
        ('{"\\ud800":1}', ""),
        (b'{"a\x00":{"b":"\x80"', r"a\x00.b"),
        (b'{"\\q":{"\\ud800":"\x80"', r"\q.\ud800"),
    ],
)
def test_a_refusal_names_the_place_where_the_text_stops_being_json(text, path):
    assert field(text) == path


def test_a_refusal_counts_lines_and_characters():
    refused = refusal('{\n "ä": "ö",\n "b": x}')
    assert (refused.metadata["line"], refused.metadata["column"]) == ("3", "7")
    refused = refusal(b'{\n "a": "b",\n "\xc3\xa4": "\xff"}')
    assert (refused.metadata["line"], refused.metadata["column"]) == ("3", "8")


PIECES = [
    b'{"a\x00":',
    b'{"\\q":',
    b'{"\\ud800":',
    b'"\x80"',
    b'{"',
    b'"',
    b":",
    b"[",
    b",",
    b"}",
    b"a",
    b"1",
    b"\x00",
    b"\x80",
]
BROKEN = st.lists(st.sampled_from(PIECES))


@given(
    st.binary(max_size=40)
    | BROKEN.map(b"".join)
    | TEXTS.flatmap(lambda text: st.integers(0, len(text)).map(lambda end: text[:end]))
)
def test_whatever_the_bytes_are_they_are_read_or_refused(body):
    with suppress(Invalid):
        read(body)


# What is JSON, and too much.


def nested(levels: int, opening: str, closing: str) -> str:
    return opening * levels + "1" + closing * levels


@pytest.mark.parametrize(("opening", "closing", "step"), [("[", "]", "[0]"), ('{"a":', "}", ".a")])
def test_what_is_nested_too_deeply_is_refused_with_the_path_of_the_first_place_that_is(opening, closing, step):
    read(nested(MAXIMUM_NESTING, opening, closing))
    for levels in (MAXIMUM_NESTING + 1, 200, 254, 255, 1024, 1025, 100_000):
        path = field(nested(levels, opening, closing))
        whole = (step * MAXIMUM_NESTING).removeprefix(".")
        assert path == whole or (len(path) <= LONGEST_PATH + 1 and path.startswith(whole[:100]) and "…" in path)


def test_what_is_nested_too_deeply_and_has_no_end_is_refused_for_its_depth():
    assert "100 deep" in refusal("[" * (1 << 20)).message
    assert "100 deep" in refusal('{"a":' * 200_000).message


def test_a_place_that_much_stands_before_has_no_name():
    refused = refusal("[" + "1," * 500_000 + "]")
    assert refused.violations == ()
    assert refused.metadata["column"] == "1000001"


def test_a_long_string_before_the_place_is_no_hindrance():
    long = "x" * (1 << 20) + '\\n\\"' * 100_000
    assert field(f'{{"a":"{long}","b":x}}') == "b"


def test_a_long_document_is_read():
    assert read("[" + "1," * 999_999 + "1]") == [1] * 1_000_000


def test_an_integer_beyond_64_bits_is_the_nearest_double():
    assert read("[18446744073709551615, 18446744073709551616, -9223372036854775809]") == [
        2**64 - 1,
        2.0**64,
        -(2.0**63),
    ]


# Objects.


@pytest.mark.parametrize("body", [b"[]", b"1", b'"a"', b"null", b'[{"a":1}]'])
def test_a_body_that_must_be_an_object_is_nothing_else(body):
    with pytest.raises(Invalid, match="no object") as refused:
        read_object(body, Reason.MALFORMED_REQUEST)
    assert refused.value.reason is Reason.MALFORMED_REQUEST
    assert read_object(b'{"a":1}', REASON) == {"a": 1}
