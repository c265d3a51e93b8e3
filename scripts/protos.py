"""Generates the stubs and contrib packages of all languages from the protos, and proves that the committed ones are fresh.

    python -m scripts.protos generate     writes the stubs and says what changed
    python -m scripts.protos check        changes nothing; fails, naming each stale file

Rules
-----
* Stubs are an exact function of `proto/certes` and of the pins in `requirements/`: a file that no proto accounts for is
  removed, and nothing among them is written by hand.
* The generators live in an environment of their own (`.venv-proto`), because its protoc is older than the broker's runtime:
  see `requirements/proto.in`. Run by that environment's Python.
* A machine without Go or Node does without their stubs, and is told so. Where `CI` is set, nothing is done without. What the contrib
  packages have beside stubs needs neither.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from scripts.contrib_trees import contrib_trees
from scripts.python_stubs import python_tree
from scripts.sdk_stubs import go_trees, typescript_trees
from scripts.stub_trees import NotGenerated, StubTree, compare, write

LANGUAGES: dict[str, Callable[[], list[StubTree]]] = {
    "Python": lambda: [python_tree()],
    "Go": go_trees,
    "TypeScript": typescript_trees,
    "The catalogue": contrib_trees,
}
_OPTIONAL = {"Go", "TypeScript"}


def main() -> int:
    """Runs the command named on the command line and returns its exit code."""
    parser = argparse.ArgumentParser(description="Generates the stubs of all languages from the protos.")
    parser.add_argument("command", choices=("generate", "check"))
    command: str = parser.parse_args().command
    stale = False
    for language, trees in LANGUAGES.items():
        try:
            for tree in trees():
                stale |= _take(tree, command)
        except NotGenerated as problem:
            if language not in _OPTIONAL or "CI" in os.environ:
                print(f"{language}: {problem}", file=sys.stderr)
                return 1
            print(f"{language}: left as they are: {problem}")
    if stale and command == "check":
        print("Run `make proto` and commit.")
    return 1 if stale and command == "check" else 0


def _take(tree: StubTree, command: str) -> bool:
    """Checks or writes one tree, and returns whether it was stale."""
    changes = compare(tree)
    for line in changes.lines():
        print(line)
    if command == "generate":
        write(tree, changes)
    verdict = "fresh" if not changes.any else "written" if command == "generate" else "STALE"
    counts = f"{len(changes.added)} new, {len(changes.changed)} changed, {len(changes.removed)} removed"
    print(f"{tree.language}: {len(tree.files)} files, {counts}: {verdict}")
    return changes.any


if __name__ == "__main__":
    sys.exit(main())
