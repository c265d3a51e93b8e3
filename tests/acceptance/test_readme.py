"""The programs in the project's own README, as a reader would paste them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from scripts.demo_github import PAYLOADS
from tests.acceptance.github import http, signed, url
from tests.program import running
from tests.toolchains import BUILDING, ROOT, build_go, tool

SECTION = (ROOT / "README.md").read_text().split("### Subscribe from your own code")[1].split("\n### ")[0]

GO = """package main

import (
	"fmt"

	gh "github.com/hookactions/certes-contrib/github"
	certes "github.com/hookactions/certes-sdk/go"
)

func main() {
%s
	select {}
}
"""

JAVASCRIPT = 'import certes from "@certes/sdk";\n%s\nconsole.error("subscribed");'


def block(language: str) -> str:
    [code] = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return code


@pytest.mark.timeout(BUILDING)
@pytest.mark.parametrize("language", ["python", "go", "js"])
async def test_the_program_prints_what_was_pushed(
    broker: BrokerProcess, tmp_path: Path, language: str, request: pytest.FixtureRequest
) -> None:
    command: list[str | Path]
    match language:
        case "go":
            source = tmp_path / "source"
            source.mkdir()
            (source / "main.go").write_text(GO % block("go"))
            command = [build_go("example.com/readme", source, tmp_path)]
        case "js":
            packages: Path = request.getfixturevalue("node_packages")
            (tmp_path / "node_modules").symlink_to(packages / "node_modules")
            source = tmp_path / "program.mjs"
            source.write_text(JAVASCRIPT % block("js"))
            command = [tool("node"), source]
        case _:
            source = tmp_path / "program.py"
            source.write_text(block("python"))
            command = [sys.executable, "-u", source]
    body = (PAYLOADS / "push-meetly-app.json").read_bytes()
    ref = json.loads(body)["ref"]
    async with running(command, {"CERTES_RESOLVE": f"localhost={broker.http}"}) as program, http() as client:
        name = "subscribers/default/subscriptions/meetly"
        while True:
            asked = await client.post(
                f"http://{broker.http}/api/certes.v1.SubscriptionService/GetSubscription", json={"name": name}
            )
            if asked.status_code == 200:
                break
            assert program.process.returncode is None, program.printed
        posted = await client.post(url(broker), content=body, headers=signed("push", body))
        assert posted.status_code == 202
        await program.until(lambda one: any(line.startswith(ref) for line in one.lines))
