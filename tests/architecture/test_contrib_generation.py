"""What is generated of the catalogue is an exact function of its protos, right for options of every kind, and refused where a
language could not say it."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from scripts.catalogue import read_catalogue
from scripts.contrib_go import exported
from scripts.contrib_trees import contrib_trees
from scripts.stub_trees import NotGenerated, StubTree, compare
from tests.pages import blocks, section

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
syntax = "proto3";
package certes.community.bell.v1;
import "certes/v1/options.proto";
option (certes.v1.schema) = {domain: "community.certes.dev" namespace: "bell" version: 1};
"""
EVENTS = """
message RingEvent {
  option (certes.v1.event) = {
    name: "ring"
    options: {name: "door_id" field: "door.id"}
    options: {name: "muted" field: "muted"}
    options: {name: "floor" field: "floor"}
    options: {name: "serial" field: "serial"}
    options: {name: "mood" field: "mood"}
    options: {name: "from" field: "previous"}
    options: {name: "times" field: "times"}
  };
  // Where.
  Door door = 1;
  // Whether nobody hears it.
  bool muted = 2;
  // How far up, less than 0 below the ground.
  sint32 floor = 3;
  // The bell's number, which says "C:\\bells" /* or */ ends in `. */`.
  uint64 serial = 4;
  // How it sounded.
  Mood mood = 5;
  // Who rang before.
  string previous = 6;
  // How often.
  int32 times = 7;
  // What is within is named after what is around it.
  message Sound {
    // A pitch.
    enum Pitch { PITCH_UNSPECIFIED = 0; }
    Pitch pitch = 1;
    map<string, string> words = 2;
  }
}
message KnockEvent {
  option (certes.v1.event) = {
    name: "knock"
    options: {name: "door_id" field: "place.id"}
    options: {name: "times" field: "times"}
  };
  Door place = 1;
  // How often, in words.
  string times = 2;
}
message Door {
  // Identifies it.
  string id = 1;
}
enum Mood { MOOD_UNSPECIFIED = 0; MOOD_GAY = 1; }
"""


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    """A folder of protos with the contract and a provider, `bell`, that has no events yet."""
    folder = tmp_path / "proto" / "certes"
    shutil.copytree(ROOT / "proto" / "certes" / "v1", folder / "v1")
    provider = folder / "community" / "bell"
    (provider / "v1").mkdir(parents=True)
    (provider / "provider.toml").write_text('title = "Bell"\n')
    return folder.parent


def add(protos: Path, text: str, name: str = "bell/v1/ring_event.proto", package: str = "bell.v1") -> None:
    path = protos / "certes" / "community" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD.replace("bell.v1", package) + text)


def text_of(trees: list[StubTree], name: str) -> str:
    (text,) = (tree.files[path].decode() for tree in trees for path in [PurePosixPath(name)] if path in tree.files)
    return text


def test_what_is_committed_of_the_catalogue_is_what_its_protos_say() -> None:
    assert [line for tree in contrib_trees() for line in compare(tree).lines()] == []


def test_no_toolchain_is_needed(protos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    add(protos, EVENTS)
    assert [tree.language for tree in contrib_trees(protos)] == ["Go contrib", "JavaScript contrib", "Python contrib"]


def test_python_options_of_every_kind_are_spelled_as_the_broker_compares_them(protos: Path) -> None:
    add(protos, EVENTS)
    (protos.parent / "bell.py").write_text(text_of(contrib_trees(protos), "bell.py"))
    module = runpy.run_path(str(protos.parent / "bell.py"), run_name="bell")
    opts = module["Opts"]
    assert opts(muted=False, floor=0, serial=2**64 - 1).event_options() == {
        "muted": "false",
        "floor": "0",
        "serial": "18446744073709551615",
    }
    assert opts(muted=True, floor=-2, mood="MOOD_GAY", from_="a guest", times="3").event_options() == {
        "muted": "true",
        "floor": "-2",
        "mood": "MOOD_GAY",
        "from": "a guest",
        "times": "3",
    }
    assert {name: opts.__annotations__[name] for name in ("muted", "serial", "times", "mood")} == {
        "muted": "bool | None",
        "serial": "int | None",
        "times": "str | None",
        "mood": "str | None",
    }
    assert set(module["__all__"]) == {"Opts", "RingEvent", "KnockEvent", "Door", "Mood"}


GO_MAIN = """
package bell

import "fmt"

func Example() {
	fmt.Println((&Opts{Muted: new(false), Floor: new(int64(0)), Serial: new(uint64(1<<64 - 1))}).EventOptions())
	fmt.Println((&Opts{DoorID: "d-1", Mood: "MOOD_GAY", From: "a guest", Times: "3"}).EventOptions())
	fmt.Println((&Opts{}).EventOptions(), (*Opts)(nil).EventOptions() == nil)
	// Output:
	// map[floor:0 muted:false serial:18446744073709551615]
	// map[door_id:d-1 from:a guest mood:MOOD_GAY times:3]
	// map[] true
}
"""


@pytest.mark.timeout(120)
def test_go_options_of_every_kind_are_spelled_as_the_broker_compares_them(protos: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    add(protos, EVENTS)
    module = protos.parent / "bell"
    module.mkdir()
    (module / "go.mod").write_text("module bell\n\ngo 1.26.0\n")
    (module / "options.certes.go").write_text(text_of(contrib_trees(protos), "bell/options.certes.go"))
    (module / "options_test.go").write_text(GO_MAIN)
    done = subprocess.run([go, "test", "."], cwd=module, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        subprocess.run(["gofmt", "-l", "options.certes.go"], cwd=module, check=True, capture_output=True).stdout == b""
    )


def test_javascript_names_what_is_within_after_what_is_around(protos: Path) -> None:
    add(protos, EVENTS)
    trees = contrib_trees(protos)
    names = "DoorSchema", "KnockEventSchema", "Mood", "MoodSchema", "RingEventSchema", "RingEvent_SoundSchema"
    pitch = "RingEvent_Sound_Pitch", "RingEvent_Sound_PitchSchema"
    lines = "".join(f"  {name},\n" for name in (*names, *pitch))
    assert f'export {{\n{lines}}} from "../gen/certes/community/bell/v1/ring_event_pb.js";' in text_of(trees, "bell.js")
    types = text_of(trees, "bell.d.ts")
    assert "  type RingEvent_Sound,\n  RingEvent_SoundSchema,\n  RingEvent_Sound_Pitch,\n" in types
    for line in (
        "muted?: boolean | undefined;",
        "floor?: number | bigint | undefined;",
        "from?: string | undefined;",
        "times?: string | undefined;",
    ):
        assert f"  readonly {line}\n" in types
    # A comment ends where the generator ends it, whatever a proto says.
    assert types.count("/**") == types.count("*/") == 9


def test_an_option_says_where_it_is_from_and_what_it_means(protos: Path) -> None:
    add(protos, EVENTS)
    (bell,) = read_catalogue(protos)
    options = {option.name: f"{bell.reach(option)}. {option.meaning}" for option in bell.options}
    assert options["door_id"] == "by `place.id` in `knock`; by `door.id` in `ring`. Identifies it."
    assert options["muted"] == "by `muted` in `ring`. Whether nobody hears it."
    assert options["times"] == "by `times` in every event type. "
    assert bell.events == {
        "community.certes.dev/bell/1/knock": "KnockEvent",
        "community.certes.dev/bell/1/ring": "RingEvent",
    }


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("repo", "Repo"),
        ("client_reference_id", "ClientReferenceID"),
        ("channel_type", "ChannelType"),
        ("id_token", "IDToken"),
        ("projects_v2", "ProjectsV2"),
        ("identity", "Identity"),
    ],
)
def test_go_fields_are_named_as_go_names_them(option: str, field: str) -> None:
    assert exported(option) == field


def options(*names: str) -> str:
    each = " ".join(f'options: {{name: "{name}" field: "a"}}' for name in names)
    return f'message E {{ option (certes.v1.event) = {{name: "e" {each}}}; string a = 1; }}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("message Opts {}", "Opts is the name of the options"),
        ("message A { message B {} } message A_B {}", r"A\.B and A_B would both be exported as A_B"),
        ("message A {} message ASchema {}", "A and ASchema would both be exported as ASchema"),
        ("message Object {}", "cannot be called Object in JavaScript"),
        (options("a_b", "a__b"), "not every option has a Go name of its own"),
        (options("event_options"), "not every option has a Go name of its own"),
        (options("2fa"), "not every option has a Go name of its own"),
        (options("a").replace('field: "a"', 'field: "a.b"'), r"has no field a\.b"),
        (options().replace('name: "e"', ""), "does not say its whole event URI"),
        ("message A {", "do not compile"),
    ],
)
def test_what_a_language_cannot_say_is_refused(protos: Path, text: str, why: str) -> None:
    add(protos, text)
    with pytest.raises(NotGenerated, match=why):
        contrib_trees(protos)


def test_two_keywords_do_not_meet_in_one_python_name(protos: Path) -> None:
    add(protos, options("from", "from_"))
    with pytest.raises(NotGenerated, match="not every option has a"):
        contrib_trees(protos)


def test_another_major_version_is_refused_until_the_packages_have_a_place_for_it(protos: Path) -> None:
    add(protos, "message A {}", "bell/v2/a.proto", "bell.v2")
    with pytest.raises(NotGenerated, match=r"bell/v2/a\.proto is not certes/community/<provider>/v1/<noun>\.proto"):
        contrib_trees(protos)


def test_a_provider_that_is_gone_takes_what_was_generated_for_it_along(tmp_path: Path) -> None:
    gone = {"Go contrib": "gone/options.certes.go", "JavaScript contrib": "gone.d.ts", "Python contrib": "gone.py"}
    for tree in contrib_trees():
        stale = tmp_path / tree.language / gone[tree.language]
        stale.parent.mkdir(parents=True)
        stale.touch()
        changes = compare(StubTree(tree.language, tmp_path / tree.language, tree.files, tree.suffix))
        assert changes.removed == (PurePosixPath(gone[tree.language]),)


def test_the_provider_that_contributing_adds_gets_its_place_in_every_package(protos: Path) -> None:
    page = section((ROOT / "CONTRIBUTING.md").read_text(), "## Add a provider to the community catalogue")
    shutil.rmtree(protos / "certes" / "community" / "bell")
    for block in blocks(page):
        comment, _, _ = block.text.partition("\n")
        if comment.endswith((".proto", ".toml")):
            path = protos.parent / comment.split()[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    trees = contrib_trees(protos)
    assert "\tDoor string\n" in text_of(trees, "doorbell/options.certes.go")
    assert "type RingEvent" in text_of(trees, "doorbell.d.ts")
    assert "RingEventSchema" in text_of(trees, "doorbell.js")
    assert "    door: str | None = None\n" in text_of(trees, "doorbell.py")
    promised = [f"`{tree.folder.relative_to(ROOT).as_posix()}/{path}`" for tree in trees for path in tree.files]
    said = " ".join(page.split())
    assert [name for name in promised if "doorbell" in name and name not in said] == []
