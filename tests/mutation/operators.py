"""Which mutants are made: a selection of cosmic-ray's operators, and one more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS

BINARY = "Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul|BitAnd_BitOr"
COMPARISON = "Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Is_IsNot|IsNot_Is"
SELECTED = re.compile(
    rf"core/ReplaceBinaryOperator_({BINARY})$|core/ReplaceComparisonOperator_({COMPARISON})$|"
    r"core/ReplaceUnaryOperator_(USub_UAdd|Delete_Not)$|"
    r"core/(AddNot|Replace(True|False|And|Or|Break|Continue)With\w+|NumberReplacer)$|"
    r"core/(RemoveDecorator|ZeroIterationForLoop)$|orthodiff/"
)
"""One replacement for each operator: the others would mostly be killed by the same tests.

`|` is left out, because it joins types; the exceptions of `except` are, because most are messages.
"""


class DeleteStatement(Operator):
    """Leave out a statement that acts: a call, `x.y = z`, `x[i] = z` or `x += y`."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and _acts(node.children[0]):
            yield node.start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        prefix = node.children[0].get_first_leaf().prefix
        node.children[0] = parso.parse("pass").children[0]
        node.children[0].prefix = prefix
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (
            Example("model.eval()\n", "pass\n"),
            Example("x += 1\n", "pass\n"),
            Example("self.a = 1\n", "pass\n"),
        )


def _acts(statement: Any) -> bool:
    if statement.type in ("atom_expr", "power"):
        return (
            statement.children[-1].type == "trailer" and statement.children[-1].children[0] == "("
        )
    if statement.type != "expr_stmt":
        return False
    target, how = statement.children[:2]
    is_augmented = (how.type == "operator" and how.value != "=") or how.type == "augassign"
    return is_augmented or (target.type in ("atom_expr", "power") and how.type != "annassign")


OURS: dict[str, type[Operator]] = {"DeleteStatement": DeleteStatement}


class Operators:
    """Those of this file, as cosmic-ray finds operators."""

    def __iter__(self) -> Iterator[str]:
        return iter(OURS)

    def __getitem__(self, name: str) -> type[Operator]:
        return OURS[name]


OPERATOR_PROVIDERS["orthodiff"] = Operators()
