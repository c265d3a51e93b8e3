"""CONTRIBUTING.md, "Add a provider to the community catalogue", followed literally in a copy of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import Reader, blocks, section

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("certes_broker", "docs", "generated", "proto", "scripts", "tests")

MAKE = f"""#!/bin/sh
set -eu
case "$1" in
proto) exec {sys.executable} proto_stubs.py ;;
test) exec {sys.executable} -m pytest -q -p no:cacheprovider ${{2#TESTS=}} ;;
*) exit 2 ;;
esac
"""
"""What the page asks of make, with what this test has at hand."""

PROTO_STUBS = f"""
import shutil, subprocess, sys
from pathlib import Path

buf = "{Path(sys.executable).with_name("buf")}"
subprocess.run([buf, "lint"], cwd="proto", check=True)
subprocess.run([buf, "format", "--diff", "--exit-code"], cwd="proto", check=True)
protos = [path for path in Path("proto/certes").rglob("*") if path.suffix in (".proto", ".toml")]
new = [path for path in protos if not Path("generated", *path.parts[1:]).exists()]
compiled = [str(path) for path in new if path.suffix == ".proto"]
command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", "--python_out=generated", *compiled]
subprocess.run(command, check=True)
for path in new:
    place = Path("generated", *path.parts[1:])
    for package in (place.parent, place.parent.parent):
        package.joinpath("__init__.py").touch()
    shutil.copy(path, place)
print("new:", *map(str, new))
"""
"""`make proto` as far as Python goes, with the compiler that a broker has; the project's own is in another environment."""

ASKED = """
from importlib.resources import files
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.providers import shipped_providers
print(shipped_providers()["doorbell"].title)
print([version.name.text for version in community_versions() if "doorbell" in version.name.text])
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the recipe touches, and of what its tests run."""
    copy = tmp_path / "tree"
    for name in NEEDED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "proto_stubs.py").write_text(PROTO_STUBS)
    python = copy / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH=.:generated exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return copy


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "make").write_text(MAKE)
    (commands / "make").chmod(0o755)
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("CERTES_", "PYTHON", "PYTEST"))
    }
    return inherited | {"PATH": f"{commands}:{inherited['PATH']}"}


@pytest.mark.timeout(180)
def test_a_provider_is_added_as_the_page_says_and_by_nothing_else(tree, environ):
    page = section((ROOT / "CONTRIBUTING.md").read_text(), "## Add a provider to the community catalogue")

    def serve() -> str:
        raise AssertionError("the recipe starts no broker")

    Reader(tree, environ, serve).follow(blocks(page))
    env = environ | {"PYTHONPATH": f"{tree}{os.pathsep}{tree / 'generated'}"}
    asked = subprocess.run([sys.executable, "-c", ASKED], cwd=tree, env=env, capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines() == ["Doorbell", "['community.certes.dev/doorbell/1']"]
    assert "doorbell" in (tree / "docs" / "reference" / "cli.md").read_text()
