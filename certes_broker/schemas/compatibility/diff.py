"""Two versions side by side: what every comparison of a part of them needs."""

from __future__ import annotations

from dataclasses import dataclass

from certes_broker.schemas.compatibility.elements import Element, Elements, Location, Proto
from certes_broker.schemas.compatibility.findings import Findings
from certes_broker.schemas.compatibility.option_changes import OptionChanges
from certes_broker.schemas.compatibility.rules import Rule


@dataclass(frozen=True, slots=True)
class Diff:
    """The elements of both versions, and where changes go."""

    before: Elements
    after: Elements
    findings: Findings
    options: OptionChanges

    def compare_comment(
        self, name: str, before: Element[Proto], after: Element[Proto], parts: tuple[Location, Location] = ((), ())
    ) -> None:
        """Compares the comments at an element, or at a part of it: `parts` are its locations within the element.

        Where either is not known nothing is said: a version that was registered as a descriptor set has lost its comments,
        not changed them.
        """
        was = self.before.comment(before.file, before.location + parts[0])
        now = self.after.comment(after.file, after.location + parts[1])
        if was is not None and now is not None and was != now:
            self.findings.add(Rule.COMMENT_CHANGED, name, was.strip(), now.strip())
