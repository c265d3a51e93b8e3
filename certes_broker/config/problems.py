"""What is wrong with settings: gathered, so that a person mends all of it at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from certes_broker.domain.errors import FieldViolation, Invalid, Reason


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where (`certes.toml:3:1`, a variable, the command line), of which key, and what is wrong with it."""

    where: str
    key: str
    what: str
    reason: Reason = Reason.SETTINGS_INVALID

    def __str__(self) -> str:
        return f"{self.where}: {self.key} {self.what}" if self.key else f"{self.where}: {self.what}"


def refusal(problems: Sequence[Problem]) -> Invalid:
    """Makes one error of all faults. Its reason is theirs if they share one, else `SETTINGS_INVALID`."""
    reasons = {problem.reason for problem in problems}
    reason = reasons.pop() if len(reasons) == 1 else Reason.SETTINGS_INVALID
    violations = [FieldViolation(problem.key, f"{problem.where}: {problem.what}") for problem in problems]
    if len(problems) == 1:
        return Invalid(reason, f"The settings cannot be used: {problems[0]}.", violations=violations)
    lines = "".join(f"\n  {problem}" for problem in problems)
    return Invalid(
        reason, f"The settings cannot be used; {len(problems)} things are wrong:{lines}", violations=violations
    )


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Returns the known word that `word` was probably meant to be; `cutoff` is how alike they must be, up to 1."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), None)
