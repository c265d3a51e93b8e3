"""The contrib packages, as their users see them: what is in them, what it costs, and what the toolchains make of it."""

from __future__ import annotations

import dataclasses
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.message import Message

import certes.community
import certes_contrib
from certes.v1 import options_pb2
from tests.toolchains import run, tool

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk"
CONTRIB = SDK / "python-contrib"
PROVIDERS = sorted(path.parent.name for path in (ROOT / "proto" / "certes" / "community").glob("*/v1"))


def stubs(provider: str) -> list:
    """The stubs of a provider's protos, in the order of their names."""
    package = import_module(f"certes.community.{provider}.v1")
    return [import_module(f"{package.__name__}.{each.name}") for each in pkgutil.iter_modules(package.__path__)]


def messages(provider: str) -> dict[str, type[Message]]:
    """The messages of a provider that are not within another."""
    return {name: getattr(stub, name) for stub in stubs(provider) for name in stub.DESCRIPTOR.message_types_by_name}


def declared(provider: str) -> set[str]:
    """The options that the event types of a provider declare."""
    events = [message.DESCRIPTOR.GetOptions().Extensions[options_pb2.event] for message in messages(provider).values()]
    return {option.name for event in events for option in event.options}


# ------------------------------------------------------------------------------------------------------------- Python


def test_python_has_a_module_for_each_provider() -> None:
    assert [each.name for each in pkgutil.iter_modules(certes_contrib.__path__)] == PROVIDERS
    assert [each.name for each in pkgutil.iter_modules(certes.community.__path__)] == PROVIDERS


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_message_of_a_provider_is_in_its_python_module(provider: str) -> None:
    module = import_module(f"certes_contrib.{provider}")
    expected = messages(provider)
    assert set(module.__all__) == {*expected, "Opts"}
    assert {name: getattr(module, name) for name in expected} == expected
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_python_options_of_a_provider_are_those_that_its_event_types_declare(provider: str) -> None:
    opts = import_module(f"certes_contrib.{provider}").Opts
    fields = [field.name for field in dataclasses.fields(opts)]
    given = {name: opts(**{name: f"a {name}"}).event_options() for name in fields}
    assert given == {name: {name: f"a {name}"} for name in declared(provider)}
    everything = {name: f"a {name}" for name in fields}
    assert opts(**everything).event_options() == everything


def test_options_that_are_none_or_empty_are_left_out() -> None:
    from certes_contrib import github as gh

    assert gh.Opts().event_options() == {}
    assert gh.Opts(repo="meetly/app", org="", sender=None).event_options() == {"repo": "meetly/app"}


def test_options_are_values() -> None:
    from certes_contrib import github as gh

    assert gh.Opts(repo="meetly/app") == gh.Opts(repo="meetly/app")
    assert len({gh.Opts(org="meetly"), gh.Opts(org="meetly"), gh.Opts()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        gh.Opts(repo="meetly/app").repo = "meetly/other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        gh.Opts("meetly/app")  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'repository'"):
        gh.Opts(repository="meetly/app")  # type: ignore[call-arg]


def test_a_message_that_is_not_there_is_an_attribute_error() -> None:
    from certes_contrib import github as gh

    with pytest.raises(AttributeError, match=r"module 'certes_contrib\.github' has no attribute 'PushEvnt'") as raised:
        gh.PushEvnt  # type: ignore[attr-defined]  # noqa: B018
    assert (raised.value.name, raised.value.obj) == ("PushEvnt", gh)


LAZY = """
import sys
from certes_contrib import github as gh
stubs = lambda: sorted(name for name in sys.modules if name.startswith("certes.community.") and name.endswith("_pb2"))
gh.Opts(repo="meetly/app")
print(stubs())
first = gh.PushEvent
assert first is gh.PushEvent and "PushEvent" in vars(gh)
print("certes.community.github.v1.push_event_pb2" in stubs(), "certes.community.github.v1.fork_event_pb2" in stubs())
print([name for name in stubs() if ".github." not in name])
"""


def test_python_imports_messages_when_they_are_used() -> None:
    printed = run(sys.executable, "-c", LAZY, cwd=CONTRIB, environ={"PYTHONPATH": str(ROOT / "generated")})
    assert printed.splitlines() == ["[]", "True False", "[]"]


TYPED = """
from collections.abc import Mapping
from typing import assert_type
from certes_contrib import github as gh, stripe

event = gh.PushEvent()
assert_type(event, gh.PushEvent)
assert_type(event.ref, str)
assert_type(stripe.PaymentIntentEvent().created, int)
assert_type(gh.Opts(repo="meetly/app").event_options(), Mapping[str, str])
assert_type(gh.Opts().repo, str | None)
"""
MISTYPED = """
from certes_contrib import github as gh

gh.PushEvnt
gh.Opts(repository="meetly/app")
gh.Opts(repo=1)
gh.Opts().repo = "meetly/app"
event: str = gh.PushEvent()
"""


@pytest.mark.timeout(240)  # mypy reads the stubs of protobuf and of the whole provider the first time
def test_type_checkers_know_every_message_and_option(tmp_path: Path) -> None:
    every = "\n".join(
        f"import certes_contrib.{provider}\n"
        + "\n".join(f"certes_contrib.{provider}.{name}()" for name in messages(provider))
        for provider in PROVIDERS
    )
    (tmp_path / "typed.py").write_text(f"{TYPED}\n{every}\n")
    (tmp_path / "mistyped.py").write_text(MISTYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "typed.py", "mistyped.py"]
    env = {**os.environ, "MYPYPATH": f"{CONTRIB}{os.pathsep}{ROOT / 'generated'}"}
    done = subprocess.run(command, check=False, cwd=tmp_path, env=env, capture_output=True, text=True)
    errors = [line.rpartition("[")[2].rstrip("]") for line in done.stdout.splitlines() if ": error:" in line]
    assert errors == ["attr-defined", "call-arg", "arg-type", "misc", "assignment"], done.stdout + done.stderr


@pytest.mark.timeout(180)
def test_the_wheel_holds_the_package_and_works_where_nothing_else_is(tmp_path: Path) -> None:
    source = shutil.copytree(CONTRIB, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    held = {name for name in names if ".dist-info/" not in name}
    assert held == {f"certes_contrib/{name}" for name in ("__init__.py", "py.typed", *(f"{p}.py" for p in PROVIDERS))}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("/METADATA"))).decode()
    required = [line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert required == ["certes-protos==0.1.0.dev0"]
    assert "# certes-contrib" in metadata
    run(*pip, "install", "--no-deps", "--no-index", "--target", tmp_path / "site", wheel, cwd=tmp_path)
    path = f"{tmp_path / 'site'}{os.pathsep}{ROOT / 'generated'}"
    program = "import certes_contrib.slack as s; print(s.__file__); s.MessageEvent()"
    assert run(sys.executable, "-c", program, cwd=tmp_path, environ={"PYTHONPATH": path}).startswith(
        str(tmp_path / "site")
    )


# ----------------------------------------------------------------------------------------------------------------- Go


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_go_options_of_a_provider_are_those_that_its_event_types_declare(provider: str) -> None:
    text = (SDK / "go-contrib" / provider / "options.certes.go").read_text()
    fields = re.findall(r"^\t(\w+) string$", text, re.MULTILINE)
    handed_on = dict(re.findall(r'options\["(\w+)"\] = o\.(\w+)$', text, re.MULTILINE))
    assert set(handed_on) == declared(provider)
    assert sorted(handed_on.values()) == sorted(fields)


@pytest.mark.timeout(300)  # the modules that the stubs stand on are downloaded and compiled the first time
def test_go_hands_on_the_options_that_are_given() -> None:
    run(tool("go"), "test", "./...", cwd=SDK / "go-contrib", environ={"GOFLAGS": "-mod=readonly"})


def test_generated_go_is_as_gofmt_leaves_it() -> None:
    files = sorted((SDK / "go-contrib").rglob("*.certes.go"))
    assert [file.parent.name for file in files] == PROVIDERS
    assert run(tool("gofmt"), "-l", *files, cwd=SDK) == ""


# --------------------------------------------------------------------------------------------------------- JavaScript


@pytest.fixture(scope="module")
def javascript(node_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which programs find the packages and the compiler."""
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "node_modules").symlink_to(node_packages / "node_modules")
    for name in ("exports.test.js", "types.ts"):
        shutil.copy(SDK / "js-contrib" / "test" / name, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def test_npm_packs_everything_and_nothing_else() -> None:
    printed = run(tool("npm"), "pack", "--dry-run", "--json", cwd=SDK / "js-contrib")
    packed = {file["path"] for file in json.loads(printed)[0]["files"]}
    package = SDK / "js-contrib"
    held = {
        path.relative_to(package).as_posix()
        for name in ("lib", "gen")
        for path in (package / name).rglob("*")
        if path.is_file()
    }
    assert packed == held | {"package.json", "README.md", "LICENSE"}


@pytest.mark.timeout(120)
def test_node_imports_every_name(javascript: Path) -> None:
    run(tool("node"), "--test", "exports.test.js", cwd=javascript)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("resolution", [("nodenext", "nodenext"), ("esnext", "bundler")])
def test_typescript_knows_every_message_and_option(javascript: Path, resolution: tuple[str, str]) -> None:
    tsc = javascript / "node_modules" / ".bin" / "tsc"
    module, how = resolution
    options = ["--strict", "--exactOptionalPropertyTypes", "--noEmit", "--target", "es2022"]
    run(tsc, *options, "--module", module, "--moduleResolution", how, "types.ts", cwd=javascript)
