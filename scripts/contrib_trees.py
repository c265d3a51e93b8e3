"""What the contrib packages of all languages hold beside the stubs of their messages; descriptors alone say it."""

from __future__ import annotations

from pathlib import Path

from scripts.catalogue import PROTOS, read_catalogue
from scripts.contrib_go import go_contrib
from scripts.contrib_javascript import javascript_contrib
from scripts.contrib_python import python_contrib
from scripts.stub_trees import StubTree


def contrib_trees(protos: Path = PROTOS) -> list[StubTree]:
    """Returns what must be generated of the catalogue below `protos`. Raises `NotGenerated` where it cannot be."""
    providers = read_catalogue(protos)
    return [go_contrib(providers), javascript_contrib(providers), python_contrib(providers)]
