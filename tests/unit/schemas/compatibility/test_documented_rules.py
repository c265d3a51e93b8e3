from __future__ import annotations

import pytest

from certes_broker.schemas.compatibility import compare
from certes_broker.schemas.compatibility.rules import Rule
from tests.unit.schemas.compatibility.compiled_versions import version
from tests.unit.schemas.compatibility.documented_rules import documented_examples, documented_verdicts

EXAMPLES = list(documented_examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_falls_under_its_rule_with_the_documented_verdict(example) -> None:
    changes = compare(version(example.before), version(example.after), 1).changes
    assert {change.rule for change in changes} == {example.rule, *example.beside}
    assert {change.breaking for change in changes if change.rule == example.rule} == {example.breaking}


def test_every_rule_is_documented_with_an_example() -> None:
    assert set(documented_verdicts()) == {rule.value for rule in Rule} == {example.rule for example in EXAMPLES}
    assert documented_verdicts() == {example.rule: example.breaking for example in EXAMPLES}
