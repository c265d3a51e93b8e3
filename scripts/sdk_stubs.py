"""Compiles the protos to Go and TypeScript, into the folders of the SDKs. Run by the Python of `.venv-proto`.

The contract goes to the SDK of a language, the community catalogue to its contrib package, one package for each provider:
Go's `github.com/hookactions/certes-contrib/github`, JavaScript's `@certes/contrib`. The plug-ins are pinned in
`requirements/` and installed below `.venv-proto` when they are first needed. A machine without Go or Node does without their
stubs, and says so; where `CI` is set that is an error. What the contrib packages have beside messages is made by `contrib_trees`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from scripts.stub_trees import ROOT, NotGenerated, StubTree, read_tree

GO_SDK = "github.com/hookactions/certes-sdk/go"
GO_CONTRIB = "github.com/hookactions/certes-contrib"
_CONTRACT = "certes/v1"
_CATALOGUE = "certes/community"
_TOOLS = ROOT / ".venv-proto"
_NODE = _TOOLS / "node"


def go_trees() -> list[StubTree]:
    """Returns what the Go stubs must be. Raises `NotGenerated` without Go."""
    go = _found("go", "Go 1.24 or newer: https://go.dev/dl")
    _install_go_plugins(go)
    sdk = _buf(_CONTRACT, [_go("protoc-gen-go", GO_SDK), _go("protoc-gen-go-grpc", GO_SDK)])
    contrib = _buf(_CATALOGUE, [_go("protoc-gen-go", GO_CONTRIB)])
    return [
        StubTree("Go", ROOT / "sdk" / "go" / "gen", _below("gen", sdk), ".pb.go"),
        StubTree("Go", ROOT / "sdk" / "go-contrib", contrib, ".pb.go"),
    ]


def typescript_trees() -> list[StubTree]:
    """Returns what the TypeScript stubs must be. Raises `NotGenerated` without Node."""
    npm = _found("npm", "Node.js 20 or newer: https://nodejs.org")
    _install_node_plugins(npm)
    plugin = str(_NODE / "node_modules" / ".bin" / "protoc-gen-es")
    options = ["target=js+dts", "import_extension=js"]
    sdk = _buf(_CONTRACT, [{"local": plugin, "out": ".", "opt": options}])
    elsewhere = [*options, "rewrite_imports=./certes/v1/**/*_pb.js:@certes/sdk/gen"]
    contrib = _buf(_CATALOGUE, [{"local": plugin, "out": ".", "opt": elsewhere}])
    return [
        StubTree("TypeScript", ROOT / "sdk" / "js" / "gen", sdk),
        StubTree("TypeScript", ROOT / "sdk" / "js-contrib" / "gen", contrib),
    ]


_Files = Mapping[PurePosixPath, bytes]


def _buf(folder: str, plugins: list[dict[str, object]]) -> _Files:
    """Runs plug-ins over the protos of one folder, and returns what they wrote."""
    buf = _TOOLS.parent / ".venv" / "bin" / "buf"
    packages = [
        {"file_option": "go_package", "path": _CONTRACT, "value": f"{GO_SDK}/gen/certes/v1;certesv1"},
        *(
            {"file_option": "go_package", "path": f"{_CATALOGUE}/{name}/v1", "value": f"{GO_CONTRIB}/{name};{name}"}
            for name in _providers()
        ),
    ]
    template = {"version": "v2", "managed": {"enabled": True, "override": packages}, "plugins": plugins}
    with tempfile.TemporaryDirectory() as out:
        command = [str(buf), "generate", "--template", json.dumps(template), "--output", out, "--path", folder]
        _run(command, cwd=ROOT / "proto")
        return read_tree(Path(out))


def _go(plugin: str, module: str) -> dict[str, object]:
    return {"local": str(_TOOLS / "bin" / plugin), "out": ".", "opt": [f"module={module}"]}


def _below(folder: str, files: _Files) -> _Files:
    return {path.relative_to(folder): content for path, content in files.items() if path.parts[0] == folder}


def _providers() -> list[str]:
    return sorted(path.name for path in (ROOT / "proto" / _CATALOGUE).iterdir() if path.joinpath("v1").is_dir())


def _install_go_plugins(go: str) -> None:
    pins = ROOT / "requirements" / "go-plugins.txt"

    def install() -> None:
        for pin in pins.read_text().split():
            _run([go, "install", pin], env={"GOBIN": str(_TOOLS / "bin")})

    _once(pins, install)


def _install_node_plugins(npm: str) -> None:
    lock = ROOT / "requirements" / "node" / "package-lock.json"

    def install() -> None:
        shutil.rmtree(_NODE, ignore_errors=True)
        shutil.copytree(lock.parent, _NODE)
        _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=_NODE)

    _once(lock, install)


def _once(pins: Path, install: Callable[[], None]) -> None:
    """Installs what `pins` names, unless it was installed by the same pins."""
    stamp = _TOOLS / f".{pins.parent.name}-{pins.name}"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return
    install()
    stamp.write_bytes(pins.read_bytes())


def _found(command: str, what: str) -> str:
    path = shutil.which(command)
    if path is None:
        raise NotGenerated(f"{command} is not on the path. Install {what}")
    return path


def _run(command: list[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotGenerated(f"{Path(command[0]).name} failed:\n{(done.stderr or done.stdout).strip()}")
