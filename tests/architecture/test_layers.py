"""The import contracts of pyproject.toml hold, and leave no module out."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def contracts() -> list[dict]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_imports_point_one_way_only() -> None:
    """In a process of its own: it disables every logger that there is, those that later tests listen to among them."""
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_of_the_broker_has_a_place_among_the_layers(contracts) -> None:
    (layers,) = [contract for contract in contracts if contract["type"] == "layers"]
    assert layers["exhaustive"] is True
    assert "exhaustive_ignores" not in layers
    assert not any("ignore_imports" in contract for contract in contracts)
    placed = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    broker = ROOT / "certes_broker"
    modules = {path.stem for path in broker.glob("*.py")} | {path.parent.name for path in broker.glob("*/__init__.py")}
    assert placed == modules - {"__init__"}


def test_the_domain_and_the_ports_know_no_wire_and_no_event_loop(contracts) -> None:
    for name in ("certes_broker.domain", "certes_broker.ports"):
        (contract,) = [c for c in contracts if c["type"] == "forbidden" and c["source_modules"] == [name]]
        assert {"grpc", "asyncio", "google", "certes"} <= set(contract["forbidden_modules"])
        assert not contract.get("allow_indirect_imports", False)
