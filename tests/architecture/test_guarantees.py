"""Every guarantee names the tests that prove it, and every test that is named exists.

What a section promises is shown by a file of `tests/promises`, which the section names. Each test of that file is a sentence of its section:
it stands first in a row there.

How fast a broker is no test asserts: a guarantee about that also links to what was measured, and says so.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in GUARANTEES.splitlines()
    if line.startswith("| ") and not line.startswith("| guarantee |")
]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
MEASURED = re.compile(r"\[measured\]\(benchmarks\.md#([\w-]+)\)")
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text()
TESTS = sorted(set(NAMED.findall(GUARANTEES)))
SECTIONS = dict(re.findall(r"^## (?:\d+\. )?(.+)\n((?:(?!## ).*\n)*)", GUARANTEES, re.MULTILINE))
"""What stands under each heading."""
PROMISES = "tests/promises"
SHOWN = re.compile(r"^Shown end to end by \[`(tests/promises/test_\w+\.py)`\]\(\.\./(\S+)\); in detail:$", re.MULTILINE)


@cache
def functions_of(path: str) -> set[str]:
    file = ROOT / path
    if not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("path", "name"), TESTS, ids=[name for _, name in TESTS])
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_of(path)


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_a_guarantee_is_proven_by_tests(row: list[str]) -> None:
    sentence, proof = row
    assert sentence.endswith(".")
    assert NAMED.search(proof), proof
    assert not MEASURED.sub("", NAMED.sub("", proof)).strip()


def test_what_was_measured_is_where_it_is_said_to_be() -> None:
    headings = re.findall(r"^#+ (.+)$", BENCHMARKS, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    linked = MEASURED.findall(GUARANTEES)
    assert linked
    assert set(linked) <= anchors


def test_every_guarantee_of_the_design_has_its_section() -> None:
    headings = re.findall(r"^## (\d+)\. ", GUARANTEES, re.MULTILINE)
    assert headings == [str(number) for number in range(1, 10)]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_names_the_file_that_shows_its_promise(section: str) -> None:
    [(named, linked)] = SHOWN.findall(SECTIONS[section])
    assert named == linked
    assert (ROOT / named).is_file()
    docstring = ast.get_docstring(ast.parse((ROOT / named).read_text())) or ""
    assert docstring.startswith(f"{section}.\n\n"), "the file begins with the promise"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_test_of_a_promise_is_linked_from_its_section(section: str) -> None:
    file = SHOWN.findall(SECTIONS[section])[0][0]
    linked = {name for path, name in NAMED.findall(SECTIONS[section]) if path == file}
    assert linked == {name for name in functions_of(file) if name.startswith("test_")}


def test_there_is_no_promise_that_no_section_names() -> None:
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / PROMISES).rglob("test_*.py"))
    assert files == sorted(named for named, _ in SHOWN.findall(GUARANTEES))


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_what_shows_a_promise_stands_before_what_proves_it_in_detail(row: list[str]) -> None:
    in_promises = [path.startswith(f"{PROMISES}/") for path, _ in NAMED.findall(row[1])]
    assert in_promises == sorted(in_promises, reverse=True)
