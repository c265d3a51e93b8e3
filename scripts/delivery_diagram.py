"""Draws the life of a delivery into the guide, from the table that the broker runs by.

python scripts/delivery_diagram.py generate     writes the diagram into docs/guide/deliveries.md
python scripts/delivery_diagram.py check        changes nothing; fails if the diagram there is stale
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from certes_broker.domain.deliveries import BEGINNINGS, ENDED, TRANSITIONS, State  # noqa: E402 - found by the line above

GUIDE = ROOT / "docs" / "guide" / "deliveries.md"
BEGIN = "<!-- The diagram is generated from the table in certes_broker/domain/deliveries.py: scripts/delivery_diagram.py -->"
END = "<!-- The diagram ends here. -->"


def main() -> int:
    """Runs the command named on the command line and returns its exit code."""
    parser = argparse.ArgumentParser(description="Draws the life of a delivery into the guide.")
    parser.add_argument("command", choices=("generate", "check"))
    command: str = parser.parse_args().command

    present = GUIDE.read_text(encoding="utf-8")
    wanted = with_diagram(present)
    name = GUIDE.relative_to(ROOT)
    if command == "check" and wanted != present:
        print(f"{name}: the diagram is stale. Run `python scripts/delivery_diagram.py generate` and commit.")
        return 1
    if wanted != present:
        GUIDE.write_text(wanted, encoding="utf-8")
    print(f"{name}: {len(State)} states, {len(TRANSITIONS)} transitions, {'fresh' if wanted == present else 'written'}")
    return 0


def with_diagram(text: str) -> str:
    """Returns a text with the diagram between its two marker comments. Raises `ValueError` if it has not both of them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the guide has lost a marker comment of its diagram")
    return f"{before}{BEGIN}\n\n```mermaid\n{diagram()}\n```\n\n{END}{after}"


def diagram() -> str:
    """Returns the table as a Mermaid state diagram. Ways between the same two states share an arrow."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, signal), after in TRANSITIONS.items():
        arrows.setdefault((state, after), []).append(signal.value)
    return "\n".join(
        [
            "stateDiagram-v2",
            *(f"    [*] --> {state.value}" for state in BEGINNINGS),
            *(f"    {state.value} --> {after.value}: {', '.join(names)}" for (state, after), names in arrows.items()),
            *(f"    {state.value} --> [*]" for state in State if state in ENDED),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
