"""What users install: wheels of the SDK for Python and of what it needs, in an environment that has nothing else of ours."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "certes_protos": ROOT / "generated",
    "certes_sdk": ROOT / "sdk" / "python",
    "certes_contrib": ROOT / "sdk" / "python-contrib",
}

PROGRAM = """
import asyncio
import sys

import certes_sdk as certes
from certes_contrib import github as gh


async def main() -> None:
    certes.init(sys.argv[1], app="wheels")
    seen = asyncio.Event()

    @certes.on("community.certes.dev/github/1/push")
    async def push(raw: certes.RawEvent) -> None:
        assert raw.to(gh.PushEvent).ref == "refs/heads/main"
        seen.set()

    await certes.ensure_subscriptions(certes.event("community.certes.dev/github/1/push", gh.Opts(repo="meetly/app")))
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(50):
        tasks.create_task(certes.run())
        message = gh.PushEvent(ref="refs/heads/main")
        message.repository.full_name = "meetly/app"
        await certes.publish(message, everyone=True)
        await seen.wait()
        await certes.close()


asyncio.run(main())
print(certes.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    command = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
    )
    run(*command, *PACKAGES.values(), cwd=folder)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheels, that finds what they need in this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*install, *wheels, cwd=folder)
    # A path that a .pth file adds is searched last, and the .pth files in there, those of editable installs, are not read.
    (purelib / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path / "data") as broker:
        yield broker.start()


def test_each_distribution_is_one_wheel_that_is_typed(wheels: list[Path]) -> None:
    assert [wheel.name.partition("-")[0] for wheel in wheels] == sorted(PACKAGES)
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
        assert len(top) == 1
        assert f"{top.pop()}/py.typed" in names
        assert not [name for name in names if "test" in name.rpartition("/")[0]]


@pytest.mark.timeout(180)
def test_a_program_runs_with_what_the_wheels_declare(python: Path, broker: BrokerProcess, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    run(sys.executable, "-m", "pip", "--python", python, "check", cwd=tmp_path)
    where = run(python, "program.py", f"events://{broker.http}", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(python.parent.parent)
