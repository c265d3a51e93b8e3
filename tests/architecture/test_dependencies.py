"""Whoever installs a distribution gets all it imports: no module leans on what only a test or another package brought along."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SDK = tomllib.loads((ROOT / "sdk" / "python" / "pyproject.toml").read_text())["project"]
CONTRIB = tomllib.loads((ROOT / "sdk" / "python-contrib" / "pyproject.toml").read_text())["project"]
# `pb` is what a program of tests/acceptance/programs has generated beside it.
OWN = {"certes_broker", "tests", "scripts", "benchmarks", "pb"}
BESIDE = {"certes": ["certes-protos"], "certes_sdk": ["certes-sdk"], "certes_contrib": ["certes-contrib"]}


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]) for requirement in requirements}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def imported(folder: str) -> Iterator[tuple[str, str]]:
    """Yields each file of a folder with the top-level name of each module of others that it imports."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for top in {module.partition(".")[0] for module in modules}:
                if top and top not in OWN and top not in sys.stdlib_module_names:
                    yield path.relative_to(ROOT).as_posix(), top


def undeclared(folder: str, declared: set[str]) -> list[str]:
    # An editable install does not say what it holds, and protobuf-py is the name of a pair, of which one is installed.
    brought_by = {**packages_distributions(), **BESIDE, "protobuf": ["protobuf-py"]}
    return [
        f"{path} imports {top}"
        for path, top in imported(folder)
        if not declared & {normal(distribution) for distribution in brought_by.get(top, [])}
    ]


def test_the_broker_declares_what_it_imports() -> None:
    assert undeclared("certes_broker", names(PROJECT["dependencies"])) == []


def test_the_sdk_declares_what_it_imports() -> None:
    itself = {normal(SDK["name"])}
    assert undeclared("sdk/python/certes_sdk", names(SDK["dependencies"]) | itself) == []
    itself = {normal(CONTRIB["name"])}
    assert undeclared("sdk/python-contrib/certes_contrib", names(CONTRIB["dependencies"]) | itself) == []


def test_what_the_sdk_declares_is_pinned_where_it_is_tested() -> None:
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    pinned = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    beside = {name for names_ in BESIDE.values() for name in names_}
    declared = names(SDK["dependencies"] + SDK["optional-dependencies"]["otel"] + CONTRIB["dependencies"])
    assert declared - beside - pinned == set()


def test_distributions_that_belong_together_carry_one_version() -> None:
    assert SDK["version"] == CONTRIB["version"] == PROJECT["version"]
    assert f"certes-protos=={PROJECT['version']}" in SDK["dependencies"]


def test_tests_and_programs_declare_what_they_import() -> None:
    declared = names(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
    # The distributions of this repository are installed beside the lock.
    declared |= {normal(SDK["name"]), normal(CONTRIB["name"])}
    folders = ("tests", "scripts", "benchmarks", "sdk/python/tests", "sdk/python/examples")
    assert [finding for folder in folders for finding in undeclared(folder, declared)] == []
