"""Files stay small, are named for their subject, and leave every task to a group."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LINES_OF_CODE = 400
LINES_OF_TESTS = 600
SUBJECTLESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "base", "impl"}

# The SDK for Python is held to the same rules; what is made of the catalogue beside it is generated.
SDK = sorted((ROOT / "sdk" / "python").rglob("*.py"))
TESTS = sorted([*(ROOT / "tests").rglob("*.py"), *(path for path in SDK if "tests" in path.parts)])
CODE = sorted(
    [
        *(path for folder in ("certes_broker", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")),
        *(path for path in SDK if "tests" not in path.parts),
    ]
)

# A library is a guest in the event loop of its application: the one task that holds the group of its others belongs to nobody.
HOLDS_ITS_GROUP = "sdk/python/certes_sdk/background.py"
# grpcio asks for this one, and cancels and awaits it in the end.
IS_AWAITED_BY_GRPCIO = "certes_broker/gateway/grpc/core_server.py"


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(("files", "limit"), [(CODE, LINES_OF_CODE), (TESTS, LINES_OF_TESTS)], ids=["code", "tests"])
def test_a_file_has_one_subject_and_stays_short(files: list[Path], limit: int) -> None:
    lengths = {relative(path): len(path.read_text().splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length > limit} == {}


def test_a_module_is_named_for_what_it_is_about() -> None:
    named = {relative(path): {path.stem, *path.relative_to(ROOT).parts[:-1]} for path in CODE + TESTS}
    assert [path for path, words in named.items() if words & SUBJECTLESS] == []


def test_a_class_is_named_for_what_it_is() -> None:
    endings = ("Manager", "Impl", "Base", "Helper", "Utils")
    classes = [
        f"{relative(path)}: {node.name}"
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith(endings)
    ]
    assert classes == []


def test_every_task_belongs_to_a_group() -> None:
    """Ruff bans `asyncio.create_task`; it cannot see that the `loop` of `loop.create_task` is an event loop."""
    bare = [
        f"{relative(path)}:{node.lineno}: {ast.unparse(node.func)}"
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"create_task", "ensure_future"}
        and ("loop" in ast.unparse(node.func.value).lower() or ast.unparse(node.func.value) == "asyncio")
    ]
    assert [line.partition(":")[0] for line in bare] == [IS_AWAITED_BY_GRPCIO, HOLDS_ITS_GROUP], bare


def test_nothing_is_left_to_do_later() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    found = [
        f"{relative(path)}:{number}"
        for path in CODE + TESTS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(word in line for word in words)
    ]
    assert found == []
