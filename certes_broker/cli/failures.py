"""How a command ends: its exit code, and what it says when it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import ClassVar, Final

from certes_broker.domain.errors import FieldViolation


@unique
class ExitCode(IntEnum):
    """What a script can tell from how a command ended. Stable."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    SETTINGS = 4
    UNFIT = 5
    INTERRUPTED = 130
    PIPE_CLOSED = 141


EXIT_MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "Done.",
    ExitCode.REFUSED: "The broker refused, or, where it was only asked, would refuse; or the receiver that it"
    " asked did. Standard error names the reason.",
    ExitCode.USAGE: "The command line, or a file it names, cannot be meant. Nothing was sent.",
    ExitCode.UNREACHABLE: "The broker cannot be reached, or went away before it had answered.",
    ExitCode.SETTINGS: "The configuration cannot be used, or the broker cannot serve with it.",
    ExitCode.UNFIT: "`doctor` or `ping` found something that keeps a broker from working.",
    ExitCode.INTERRUPTED: "Ended by Ctrl-C (128 and the number of SIGINT, as shells have it).",
    ExitCode.PIPE_CLOSED: "Whoever read the output went away (128 and the number of SIGPIPE); nothing is said.",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the broker said: its canonical code (`invalid_argument`) and, unless something between us spoke, the rest."""

    code: str
    message: str
    reason: str = ""
    violations: Sequence[FieldViolation] = ()
    retry_delay: float | None = None


class CallRefused(Exception):
    """The broker answered, and refused. `doing` is what was asked of it: "publishing the event"."""

    _verdict: ClassVar = "the broker refused"

    def __init__(self, doing: str, refusal: Refusal) -> None:
        super().__init__(doing, refusal)
        self.doing = doing
        self.refusal = refusal

    def __str__(self) -> str:
        refusal = self.refusal
        lines = [f"{self.doing}: {self._verdict} ({refusal.reason or refusal.code}).", f"  {refusal.message}"]
        lines += [
            f"  {violation.field}: {violation.description}"
            for violation in refusal.violations
            if violation.description not in refusal.message
        ]
        if refusal.retry_delay is not None:
            lines.append(f"  The same may succeed in {refusal.retry_delay:g} s.")
        return "\n".join(lines)


class WouldBeRefused(CallRefused):
    """The broker was only asked, and would refuse."""

    _verdict = "the broker would refuse"


class BrokerUnreachable(Exception):
    """No answer came. `advice` says what to do about it."""

    def __init__(self, doing: str, problem: str, advice: str) -> None:
        super().__init__(doing, problem, advice)
        self.doing = doing
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.doing}: {self.problem}.\n  {self.advice}"
