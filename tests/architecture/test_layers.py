"""The import contracts of pyproject.toml hold, and leave no module out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def contracts() -> list[dict]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_imports_point_one_way_only(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


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
