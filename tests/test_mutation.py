"""The tool that makes wrong lines makes those it says, and finds the tests that run them."""

import pytest

from tests.mutation.forks import _changed_lines

operators = pytest.importorskip(
    "tests.mutation.operators", reason="needs the extra: pip install '.[mutants]'"
)


DOCSTRING = '"""A docstring."""\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def f():\n    model.eval()\n    return 1\n", "def f():\n    pass\n    return 1\n"),
        ("x = 0\nx += 1\n", "x = 0\npass\n"),
        ("self.a = 1\n", "pass\n"),
        ("a[0] = 1\n", "pass\n"),
    ],
)
def test_statements_that_act_are_left_out(before, after):
    from cosmic_ray.mutating import mutate_code

    assert mutate_code(before, operators.DeleteStatement(), 0) == after


@pytest.mark.parametrize("code", ["x = f()\n", DOCSTRING, "return f()\n", "x: int = 1\n"])
def test_other_statements_stay(code):
    from cosmic_ray.mutating import mutate_code

    assert mutate_code(code, operators.DeleteStatement(), 0) is None


@pytest.mark.parametrize(
    ("name", "is_made"),
    [
        ("core/ReplaceBinaryOperator_Add_Sub", True),
        ("core/ReplaceBinaryOperator_Add_Mul", False),
        ("core/ReplaceBinaryOperator_BitOr_Add", False),
        ("core/ReplaceComparisonOperator_Lt_LtE", True),
        ("core/AddNot", True),
        ("orthodiff/DeleteStatement", True),
    ],
)
def test_one_replacement_of_each_operator_is_made(name, is_made):
    assert bool(operators.SELECTED.match(name)) is is_made


def test_changed_lines_are_those_of_the_file_before():
    assert _changed_lines("a\nb\nc\n", "a\nB\nc\n") == {2}
    assert _changed_lines("a\nb\nc\n", "a\nc\n") == {2}
    assert _changed_lines("a\nb\n", "a\nb\n") == set()
