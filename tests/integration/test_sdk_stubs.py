"""The stubs of TypeScript, as Node loads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolchains import BUILDING, SDK, run, tool

IMPORT_ALL = """
import {readdirSync} from "node:fs";
import {pathToFileURL} from "node:url";
let events = 0;
for (const entry of readdirSync("gen", {recursive: true}).filter((name) => name.endsWith("_pb.js"))) {
  events += Object.keys(await import(pathToFileURL("gen/" + entry))).filter((name) => name.endsWith("EventSchema")).length;
}
console.log(events);
"""


@pytest.mark.timeout(BUILDING)
def test_node_loads_every_stub_of_the_catalogue(node_packages: Path) -> None:
    """Also those that no index names."""
    events = run(tool("node"), "--input-type=module", "--eval", IMPORT_ALL, cwd=node_packages / "js-contrib")
    defined = [path for path in (SDK / "js-contrib" / "gen").rglob("*_pb.js") if "EventSchema" in path.read_text()]
    assert int(events) >= len(defined) >= 5
