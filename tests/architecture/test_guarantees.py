"""Every guarantee names the tests that prove it, and every test that is named exists.

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
