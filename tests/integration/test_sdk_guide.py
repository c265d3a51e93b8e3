"""The programs of docs/guide/sdks.md, as they stand there, in each language, with a broker; and those of the contrib packages'
pages, as compilers see them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests.pages import blocks, section
from tests.program import running
from tests.toolchains import BUILDING, build_go, run, tool

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "guide" / "sdks.md").read_text()
LANGUAGES = ("python", "go", "js")
COME = "refs/heads/main of meetly/app"


def programs(heading: str) -> dict[str, str]:
    """The programs under a heading of the guide, by language."""
    return {block.language: block.text for block in blocks(section(GUIDE, heading))}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def port() -> int:
    """Where the programs listen instead of on 8080, which somebody may have."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module", params=LANGUAGES)
def commands(request: pytest.FixtureRequest, workshop: Path, port: int) -> dict[str, list[str | Path]]:
    """The command of each program in a language, by the last word of its heading."""
    if request.param == "js":
        packages: Path = request.getfixturevalue("node_packages")
        (workshop / "node_modules").symlink_to(packages / "node_modules")
    return {
        heading.split()[-1]: command(request.param, text[request.param].replace("8080", str(port)), workshop, heading)
        for heading, text in {each: programs(each) for each in PROGRAMS}.items()
    }


PROGRAMS = ("## Subscribe by stream", "## Subscribe by webhook", "## Publish")


def command(language: str, text: str, workshop: Path, heading: str) -> list[str | Path]:
    folder = workshop / language / heading.rsplit(maxsplit=1)[-1].lower()
    folder.mkdir(parents=True)
    match language:
        case "python":
            (folder / "program.py").write_text(text)
            return [sys.executable, folder / "program.py"]
        case "go":
            (folder / "main.go").write_text(text)
            return [build_go(f"example.com/{folder.name}", folder, workshop / "built")]
        case _:
            (folder / "program.mjs").write_text(text)
            return [tool("node"), folder / "program.mjs"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data") as process:
        yield process.start()


def test_every_block_of_the_guide_is_a_program_that_is_run() -> None:
    assert [set(programs(heading)) for heading in PROGRAMS] == [set(LANGUAGES)] * len(PROGRAMS)
    assert len(blocks(GUIDE)) == len(PROGRAMS) * len(LANGUAGES)


@pytest.mark.timeout(BUILDING)
@pytest.mark.parametrize("way", ["stream", "webhook"])
async def test_what_is_published_comes_to_who_has_subscribed(commands, broker, way) -> None:
    environ = {"CERTES_RESOLVE": f"localhost={broker.http}"}
    async with running(commands[way], environ) as subscriber:
        await subscriber.until(lambda program: "subscribed" in program.lines)
        async with running(commands["Publish"], environ) as publisher:
            assert await publisher.ended() == 0, publisher.printed
            assert publisher.lines == ["stored", "AUDIENCE_MISSING"]
        await subscriber.until(lambda program: COME in program.lines)
        # uvicorn, once it has stopped in order, ends by the signal that it was sent.
        is_uvicorn = (commands[way][0], way) == (sys.executable, "webhook")
        assert await subscriber.terminate() == (-signal.SIGTERM if is_uvicorn else 0), subscriber.printed
        assert subscriber.lines == ["subscribed", COME]
        assert subscriber.errors == []


def page_program(package: str) -> str:
    (program,) = blocks((ROOT / "sdk" / package / "README.md").read_text())
    return program.text


@pytest.mark.timeout(240)  # mypy reads the stubs of the whole provider the first time
def test_the_program_on_the_page_of_the_python_package_is_well_typed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(page_program("python-contrib"))
    paths = [str(ROOT / place) for place in ("generated", "sdk/python", "sdk/python-contrib")]
    mypy = (sys.executable, "-m", "mypy", "--strict", "program.py")
    run(*mypy, cwd=tmp_path, environ={"MYPYPATH": os.pathsep.join(paths)})


@pytest.mark.timeout(BUILDING)
def test_the_program_on_the_page_of_the_go_package_compiles(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "main.go").write_text(page_program("go-contrib"))
    build_go("example.com/page", tmp_path / "source", tmp_path)


@pytest.mark.timeout(BUILDING)
def test_the_program_on_the_page_of_the_javascript_package_is_well_typed(tmp_path: Path, node_packages: Path) -> None:
    (tmp_path / "node_modules").symlink_to(node_packages / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "program.ts").write_text(page_program("js-contrib"))
    options = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--types", "node")
    compiler = tmp_path / "node_modules" / "typescript" / "bin" / "tsc"
    run(tool("node"), compiler, *options, "program.ts", cwd=tmp_path)
