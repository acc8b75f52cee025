"""The rules of the primitives that hold graphs, which `primitives/` only declares."""

from __future__ import annotations

from funcgrad.transforms import branch_rules, call_rules, custom_rules, loop_rules
from funcgrad.transforms.rules import set_rules

RULES = call_rules.RULES | branch_rules.RULES | loop_rules.RULES | custom_rules.RULES


def install_rules() -> None:
    """Complete these primitives; until then they only compute."""
    for prim, rules in RULES.items():
        set_rules(prim, rules)
