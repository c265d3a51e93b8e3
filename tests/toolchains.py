"""The toolchains of other languages, and programs of theirs made runnable: Go's are built, JavaScript's find what they import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "tests" / "acceptance" / "programs"
SDK = ROOT / "sdk"
GO_SDK = "github.com/hookactions/certes-sdk/go"
GO_CONTRIB = "github.com/hookactions/certes-contrib"

NPM_QUIET = ("--no-audit", "--no-fund", "--loglevel=error")
BUILDING = 600
"""Seconds. What a program stands on is downloaded and compiled the first time."""


def tool(name: str) -> str:
    """The path of a toolchain's command; skips where it is missing, which CI does not allow."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, cwd: Path, environ: Mapping[str, str] | None = None) -> str:
    """Runs a command to its end and returns what it printed; its standard error is the message of a failure."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}
    done = subprocess.run(
        command, check=False, cwd=cwd, capture_output=True, text=True, env={**inherited, **(environ or {})}
    )
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
    return done.stdout


def build_go(module: str, source: Path, directory: Path) -> Path:
    """Builds the Go program in a folder as a module of its own, which takes the SDK from this tree; returns the program."""
    go = tool("go")
    folder = directory / module.rpartition("/")[2]
    shutil.copytree(source, folder)
    run(go, "mod", "init", module, cwd=folder)
    for name, place in ((GO_SDK, SDK / "go"), (GO_CONTRIB, SDK / "go-contrib")):
        run(go, "mod", "edit", f"-replace={name}={place}", cwd=folder)
    # `tidy` adds what the program imports, at the versions that the SDK was tested with.
    run(go, "mod", "tidy", cwd=folder, environ={"GOFLAGS": "-mod=mod"})
    program = directory / f"{folder.name}.program"
    run(go, "build", "-o", str(program), ".", cwd=folder)
    return program


def generate_go(protos: Path, folder: Path) -> None:
    """Writes the Go code of protos into a folder, as their author would; with the generator that the SDK's module names."""
    plugin = folder / "protoc-gen-go"
    run(tool("go"), "build", "-o", str(plugin), "google.golang.org/protobuf/cmd/protoc-gen-go", cwd=SDK / "go")
    to_sdk = f"Mcertes/v1/options.proto={GO_SDK}/gen/certes/v1"
    options = [f"--plugin={plugin}", f"--go_out={folder}", "--go_opt=paths=source_relative", f"--go_opt={to_sdk}"]
    _protoc(protos, options)
    plugin.unlink()


def generate_python(protos: Path, folder: Path) -> None:
    """Writes the Python code of protos into a folder, as their author would."""
    _protoc(protos, [f"--python_out={folder}"])


def _protoc(protos: Path, options: list[str]) -> None:
    paths = [path.relative_to(protos).as_posix() for path in sorted(protos.rglob("*.proto"))]
    run(sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", f"-I{ROOT / 'proto'}", *options, *paths, cwd=protos)


def install_packages(folder: Path) -> Path:
    """Copies the JavaScript packages to a folder, with what is locked and with what their tests read; returns their workspace.

    A copy, since whoever works on the tree's own packages meanwhile would find them without what they import.
    """
    node, npm = tool("node"), tool("npm")
    if int(run(node, "--print", "process.versions.node.split('.')[0]", cwd=ROOT)) < 20:
        pytest.skip("Node.js is older than 20")
    leave_out = shutil.ignore_patterns("node_modules", "dist")
    for name in ("js", "js-contrib"):
        shutil.copytree(SDK / name, folder / "sdk" / name, ignore=leave_out)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(SDK / name, folder / "sdk")
    shutil.copytree(ROOT / "tests" / "vectors", folder / "tests" / "vectors")
    run(npm, "ci", *NPM_QUIET, cwd=folder / "sdk")
    return folder / "sdk"
