"""Every guarantee names the tests that prove it, or the part it comes with, and every test that is named exists."""

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
TO_COME = re.compile(r"\*comes with part [2-8]\*")
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
def test_a_guarantee_is_proven_by_a_test_or_says_when_it_comes(row: list[str]) -> None:
    sentence, proof = row
    assert sentence.endswith(".")
    assert bool(NAMED.search(proof)) != bool(TO_COME.fullmatch(proof)), proof
    assert not NAMED.sub("", proof).strip() or TO_COME.fullmatch(proof)


def test_every_guarantee_of_the_design_has_its_section() -> None:
    headings = re.findall(r"^## (\d+)\. ", GUARANTEES, re.MULTILINE)
    assert headings == [str(number) for number in range(1, 10)]
