"""Sizes and guards may compute and nothing else."""

from __future__ import annotations

import pytest

from graphopt.capture.archive_expressions import check_guard, check_size
from graphopt.capture.archive_refusal import Refusal


@pytest.mark.parametrize(
    "text",
    [
        "s0",
        "s0*(s1 + 1)//2",
        "Symbol('s77', positive=True, integer=True)",
        "Add(Symbol('s0', integer=True), Mul(Integer(-1), Pow(Symbol('s1'), Integer(2))))",
        "FloorDiv(Max(Integer(1), Symbol('u0', integer=True)), Rational(1, 2))",
        "Pow(ToFloat(Symbol('s0')), Float('0.5', precision=53))",
        "Piecewise(ExprCondPair(Integer(1), StrictLessThan(Symbol('s0'), Integer(2))), true)",
        "And(Equality(Symbol('s0'), Integer(9223372036854775807)), Not(false))",
    ],
)
def test_a_size_may_be_arithmetic(text: str) -> None:
    check_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "__import__('os')",
        "eval('1')",
        "exec",
        "(lambda: 1)()",
        "[c for c in s0]",
        "s0.__class__",
        "Symbol.__init__",
        "Symbol('s0')('x')",
        "Symbol('a b')",
        "Symbol('__x')",
        "Symbol('s0', integer=s1)",
        "Symbol('s0', **s1)",
        "Function('f')(s0)",
        "Add(*s0)",
        "f's0'",
        "'s0'",
        "s0 # comment",
        "s0\n+1",
        "9**9**9",
        "(9**9)**9",
        "Pow(Pow(9, 9), 9)",
        "Pow(9, Pow(9, 9))",
        "Pow(Integer(9), Integer(999999999))",
        "LShift(1, 4611686018427387904)",
        "1 << s0",
        "1" * 30,
        "(" * 5000 + "s0" + ")" * 5000,
        "s0+" * 40_000 + "s0",
        "-" * 20_000 + "s0",
    ],
)
def test_a_size_may_be_nothing_else(text: str) -> None:
    with pytest.raises(Refusal):
        check_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "(L['x'].size()[0] % 2) == 0",
        "L['more']['pair'][0].stride()[1] != 1 and L['n'] >= 0",
        "L['x'].field.storage_offset() // 2 <= max(1, L['y'].size()[1])",
        "math.trunc(torch.sym_float(L['x'].size()[0]) ** 0.5) == 2",
        "abs(L['y'].size()[0] + ((-1)*L['x'].size()[0])) < 10",
        "not (L['x'].size()[0] == (1 if L['n'] < math.inf else 2))",
    ],
)
def test_a_guard_may_compare_sizes(text: str) -> None:
    check_guard(text)


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "torch.load('x')",
        "torch.os.system('x')",
        "math.__loader__",
        "L['x'].tofile('x')",
        "L['x'].__class__",
        "L['x'].size().__class__",
        "L['x'](1)",
        "L['x'].size(key=1)",
        "args[0]",
        "globals()",
        "L[L]",
        "L['a\\'b']",
        'L["x"]',
        "'a' * 9999",
        "9 ** L['n']",
        "(yield)",
        "(x := 1)",
        "[1]",
        "True, print",
        "L['x'].size()[0] == 1, 'message') or print('x'",
    ],
)
def test_a_guard_may_do_nothing_else(text: str) -> None:
    with pytest.raises(Refusal):
        check_guard(text)
