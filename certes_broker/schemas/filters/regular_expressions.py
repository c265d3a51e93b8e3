r"""How large a regular expression is for RE2, which runs those of filters.

RE2 is linear in the text, but with a factor: in the worst case a step for each instruction of the expression's program,
and the program is made anew for each evaluation. `a{1000}` is short and has a thousand instructions, `\pL` has more. So
a program's size is estimated here, from above, by the expression's text alone.
"""

from __future__ import annotations

import math
import re
from typing import Final

CLASS: Final = 12
"""Instructions, at most about, of what stands for many characters: each length of UTF-8 has its own."""
UNICODE_CLASS: Final = 2500
FOLDED: Final = 3
"""How many times as many instructions ignoring case takes."""


def program_size(pattern: str) -> int:
    """Returns about how many instructions a regular expression has, and no fewer."""
    size = (
        len(pattern) + CLASS * len(_CLASSES.findall(pattern)) + UNICODE_CLASS * len(_UNICODE_CLASSES.findall(pattern))
    )
    if _IGNORING_CASE.search(pattern):
        size *= FOLDED
    # What is repeated may itself be repeated within, so the counts are multiplied.
    return size * math.prod(max(1, int(count)) for count in _COUNTS.findall(pattern))


_CLASSES: Final = re.compile(r"\\|\.|\[\^|[^\x00-\x7f]")
_UNICODE_CLASSES: Final = re.compile(r"\\[pP]|\[\[:")
_IGNORING_CASE: Final = re.compile(r"\(\?[a-zA-Z]*i")
_COUNTS: Final = re.compile(r"\{(?:\d{1,9},)?(\d{1,9})")
