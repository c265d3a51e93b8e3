"""The contract stands alone, and what the distributions and locks promise about it is true."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = sorted((ROOT / "proto" / "certes" / "v1").glob("*.proto"))
STUBS = sorted((ROOT / "generated" / "certes").rglob("*_pb2*.py"))


def imports(proto: Path) -> list[str]:
    return re.findall(r'^import (?:public |weak )?"([^"]+)";', proto.read_text(), re.MULTILINE)


def test_the_contract_imports_nothing_but_itself_and_protobuf() -> None:
    """So that anybody's protoc can use the folder alone (design, section 3)."""
    assert CONTRACT
    foreign = {
        f"{proto.name}: {name}"
        for proto in CONTRACT
        for name in imports(proto)
        if not name.startswith(("google/protobuf/", "certes/v1/"))
    }
    assert foreign == set()


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.stem)
def test_every_stub_loads_with_the_installed_runtime(stub: Path) -> None:
    """Warnings are errors here: a runtime about to drop this generated code would say so."""
    import_module(".".join(stub.relative_to(ROOT / "generated").with_suffix("").parts))


def test_the_stubs_were_stamped_by_a_protoc_that_serves_protobuf_6_and_7() -> None:
    stamps = {
        match.group(1)
        for stub in STUBS
        if (match := re.search(r"^# Protobuf Python Version: (\d+)\.", stub.read_text(), re.MULTILINE))
    }
    assert stamps == {"6"}
    project = tomllib.loads((ROOT / "generated" / "pyproject.toml").read_text())["project"]
    assert "protobuf>=6.30,<8" in project["dependencies"]


@pytest.mark.parametrize("lock", ["dev.txt", "proto.txt"])
def test_a_lock_pins_by_hash_and_holds_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    requirements = re.findall(r"^[a-z0-9].*", text, re.MULTILINE)
    assert requirements
    assert [line for line in requirements if "==" not in line or not line.endswith("\\")] == []
    assert "://" not in text


def test_both_distributions_carry_one_version() -> None:
    broker = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    protos = tomllib.loads((ROOT / "generated" / "pyproject.toml").read_text())["project"]
    assert broker["version"] == protos["version"]
    assert f"certes-protos=={protos['version']}" in broker["dependencies"]
