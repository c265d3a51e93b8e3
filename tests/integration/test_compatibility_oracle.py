"""`buf breaking` as the oracle: whatever it calls breaking in its category WIRE_JSON, the broker calls breaking, too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from certes_broker.domain.schemas import SchemaChange
from certes_broker.schemas.compatibility import compare
from tests.unit.schemas.compatibility.compiled_versions import HEAD, compile_protos, version_of
from tests.unit.schemas.compatibility.documented_rules import documented_examples
from tests.unit.schemas.compatibility.random_edits import ALL, edited
from tests.unit.schemas.compatibility.random_schemas import random_schema, texts
from tests.unit.schemas.compatibility.repaired_schemas import repaired

BUF = Path(sys.executable).parent / "buf"
WIRE_JSON = json.dumps({"version": "v2", "breaking": {"use": ["WIRE_JSON"]}})
PAIRS = 600
SOMETHING_IS_BREAKING = 100
"""What buf exits with."""


@dataclass(frozen=True)
class Pair:
    """Two revisions of a schema: files by path, all in a folder of their own, so that many pairs go into one call."""

    folder: str
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True)
class Judged:
    """What either judge says of a pair. `ours` are the breaking changes, `bufs` its rules with its texts."""

    pair: Pair
    ours: Sequence[SchemaChange]
    bufs: Sequence[tuple[str, str]]

    def __str__(self) -> str:
        said = "\n".join(f"{rule}: {text}" for rule, text in self.bufs)
        sides = [f"// {path}\n{text}" for side in (self.pair.before, self.pair.after) for path, text in side.items()]
        return "\n".join((f"buf says\n{said}\nwe say {self.ours}", *sides))


def judged(pairs: Sequence[Pair], folder: Path) -> Iterator[Judged]:
    """Lets both judge all pairs; buf is called once."""
    sets = []
    for name in ("before", "after"):
        files = {path: text for pair in pairs for path, text in getattr(pair, name).items()}
        sets.append(compile_protos(files))
        (folder / f"{name}.binpb").write_bytes(sets[-1].SerializeToString())
    command = [
        BUF,
        "breaking",
        "after.binpb",
        "--against",
        "before.binpb",
        "--config",
        WIRE_JSON,
        "--error-format",
        "json",
    ]
    buf = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={"HOME": str(folder)})
    assert buf.returncode in {0, SOMETHING_IS_BREAKING}, buf.stderr
    bufs: dict[str, list[tuple[str, str]]] = {}
    for line in buf.stdout.splitlines():
        said = json.loads(line)
        bufs.setdefault(said["path"].split("/")[0], []).append((said["type"], said["message"]))
    before, after = (_by_folder(files, {pair.folder for pair in pairs}) for files in sets)
    for pair in pairs:
        comparison = compare(version_of(before[pair.folder]), version_of(after[pair.folder]), 1)
        yield Judged(pair, comparison.breaking, bufs.get(pair.folder, ()))


def _by_folder(files: FileDescriptorSet, folders: set[str]) -> dict[str, FileDescriptorSet]:
    """Parts a set by the folders of its files; what is in none of them, every part gets first."""
    shared = [file for file in files.file if file.name.split("/")[0] not in folders]
    found = {folder: FileDescriptorSet(file=shared) for folder in folders}
    for file in files.file:
        if file not in shared:
            found[file.name.split("/")[0]].file.append(file)
    return found


def places(rule: str, text: str, known: set[str]) -> set[str]:
    """Returns the elements that buf speaks of, of those that the schema names: `"M0"` of `Field "1" on message "M0"`."""
    if rule == "FIELD_SAME_DEFAULT":
        # Without a default of its own a field has the first value of its enum: there the enum changed, which we say of that.
        return set(re.findall(r"\w+", text)) & known
    return set(re.findall(r'\b(?:message|enum|service) "(\w+)"', text, re.IGNORECASE)) & known


@pytest.fixture(scope="module")
def edits(tmp_path_factory) -> list[Judged]:
    """Random edits of random schemas, judged."""
    pairs = []
    for index in range(PAIRS):
        rng = Random(index)
        before = repaired(random_schema(rng, f"p{index}"))
        after = edited(rng, before, ALL, rng.choice((1, 1, 2, 4)))
        pairs.append(Pair(before.folder, texts(before), texts(after)))
    return list(judged(pairs, tmp_path_factory.mktemp("edits")))


def test_what_buf_calls_breaking_is_breaking_at_the_same_element(edits) -> None:
    for one in edits:
        ours = {part for change in one.ours for part in re.split(r"[./]", change.element)}
        known = set(re.findall(r"^(?:message|enum|service) (\w+)", "".join(one.pair.before.values()), re.MULTILINE))
        for rule, text in one.bufs:
            theirs = places(rule, text, known)
            if not one.ours or (theirs and not theirs & ours):
                pytest.fail(str(one))


def test_the_edits_fall_under_every_rule_of_buf(edits) -> None:
    command = [BUF, "config", "ls-breaking-rules", "--version", "v2", "--format", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rules = {rule["id"] for rule in map(json.loads, listed.splitlines()) if "WIRE_JSON" in rule["categories"]}
    assert {rule for one in edits for rule, _ in one.bufs} == rules


def test_what_buf_calls_breaking_among_the_documented_examples_is_documented_as_breaking(tmp_path) -> None:
    # buf cannot read message sets.
    examples = [example for example in documented_examples() if "message_set" not in str(example.after)]
    pairs = [
        Pair(f"e{index}", *(_in_folder(side, f"e{index}") for side in (example.before, example.after)))
        for index, example in enumerate(examples)
    ]
    found = list(judged(pairs, tmp_path))
    for one in found:
        assert one.ours or not one.bufs, str(one)
    assert sum(bool(one.bufs) for one in found) > len(examples) / 4


def _in_folder(text: str | Mapping[str, str], folder: str) -> dict[str, str]:
    files = {"meetly/v1/invited.proto": text} if isinstance(text, str) else text
    whole = {
        path: content if content.startswith(("syntax", "edition")) else HEAD + content
        for path, content in files.items()
    }
    return {path.replace("meetly/", f"{folder}/"): _renamed(content, folder) for path, content in whole.items()}


def _renamed(text: str, folder: str) -> str:
    text = re.sub(r"^package meetly\.", f"package {folder}.", text, flags=re.MULTILINE)
    return re.sub(r'^import "meetly/', f'import "{folder}/', text, flags=re.MULTILINE)
