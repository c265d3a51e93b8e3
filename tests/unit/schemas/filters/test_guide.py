"""The filters that the guide shows are filters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.filters.environments import Environment
from certes_broker.schemas.registry import Registry

GUIDE = Path(__file__).parents[4] / "docs" / "guide" / "filters.md"
SHOWN = re.findall(r"^```cel\n(.*?)\n```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", SHOWN)
def test_what_the_guide_shows_fits_a_push(text):
    push = Registry(community_versions()).lookup("community.certes.dev/github/1/push")
    Environment(push).compile(text)


def test_the_guide_shows_filters():
    assert len(SHOWN) >= 4
