from __future__ import annotations

import pytest

from scripts.reference import pages


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_the_committed_reference_says_what_the_code_says(path):
    assert path.read_text(encoding="utf-8") == pages()[path], "Run `python -m scripts.reference generate` and commit."
