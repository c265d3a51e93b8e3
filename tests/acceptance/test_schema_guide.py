"""docs/guide/schemas.md, followed literally against the real process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.broker_process import ROOT, BrokerProcess
from tests.pages import Reader, blocks

GUIDE = ROOT / "docs" / "guide" / "schemas.md"

CURL = f"""#!{sys.executable}
'''What the page asks of curl, for machines that have none.'''
import sys
from urllib.request import Request, urlopen

words = [word for word in sys.argv[1:] if word != "--silent"]
headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
(data,) = (words[at + 1].encode() for at, word in enumerate(words) if word == "-d")
(url,) = (word for word in words if word.startswith("http"))
sys.stdout.write(urlopen(Request(url, data, headers)).read().decode())
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The surroundings of somebody who has Certes, Python and curl installed."""
    commands = tmp_path / "bin"
    commands.mkdir()
    paths = os.pathsep.join([str(ROOT), str(ROOT / "generated")])
    programs = {"certes": f'#!/bin/sh\nPYTHONPATH={paths} exec {sys.executable} -m certes_broker "$@"\n'}
    programs["python"] = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    if shutil.which("curl") is None:
        programs["curl"] = CURL
    for name, text in programs.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CERTES_", "PYTHON"))}
    return {**inherited, "PATH": f"{commands}:{inherited['PATH']}", "no_proxy": "127.0.0.1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the page is followed."""
    made = tmp_path / "followed"
    made.mkdir()
    return made


@pytest.fixture
def brokers(tmp_path: Path, folder: Path) -> Iterator[list[BrokerProcess]]:
    """The broker that the page starts, as often as it does: one data directory, one address."""
    started: list[BrokerProcess] = []
    yield started
    with ExitStack() as stack:
        for broker in started:
            stack.enter_context(broker)


def test_the_page_on_schemas_can_be_followed_and_shows_what_comes(tmp_path, environ, folder, brokers):
    def serve() -> str:
        place = {"http": brokers[-1].http, "grpc": brokers[-1].grpc} if brokers else {}
        if brokers:
            brokers[-1].terminate()
        brokers.append(BrokerProcess(tmp_path / "data", config=folder / "certes.toml", **place))
        return brokers[-1].start().http

    Reader(folder, environ, serve).follow(blocks(GUIDE.read_text()))
    assert len(brokers) == 2
