"""The stubs of Go and TypeScript, as the toolchains of their users see them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk"

IMPORT_ALL = """
import {readdirSync} from "node:fs";
import {pathToFileURL} from "node:url";
let events = 0;
for (const entry of readdirSync("gen", {recursive: true}).filter((name) => name.endsWith("_pb.js"))) {
  events += Object.keys(await import(pathToFileURL("gen/" + entry))).filter((name) => name.endsWith("EventSchema")).length;
}
console.log(events);
"""


def tool(name: str) -> str:
    """The path of a toolchain's command; skips where it is missing, which CI does not allow."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        command, check=False, cwd=cwd, capture_output=True, text=True, env={**os.environ, "GOFLAGS": "-mod=readonly"}
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.mark.timeout(300)  # the modules that the stubs stand on are downloaded and compiled the first time
@pytest.mark.parametrize("module", ["go", "go-contrib"])
def test_go_compiles_the_stubs(module: str) -> None:
    run(tool("go"), "vet", "./...", cwd=SDK / module)


@pytest.mark.timeout(300)
def test_node_loads_the_stubs(tmp_path: Path) -> None:
    node, npm = tool("node"), tool("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "requirements" / "node" / name, tmp_path)
    run(npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=tmp_path)
    shutil.copytree(SDK / "js-contrib" / "gen", tmp_path / "gen")
    sdk = tmp_path / "node_modules" / "@certes" / "sdk"
    shutil.copytree(SDK / "js" / "gen", sdk / "gen")
    (sdk / "package.json").write_text('{"name": "@certes/sdk", "type": "module"}')
    (tmp_path / "all.mjs").write_text(IMPORT_ALL)
    (tmp_path / "gen" / "package.json").write_text('{"type": "module"}')
    assert int(run(node, "all.mjs", cwd=tmp_path)) >= 5
