"""What must not change, or not be touched at all, near sum-product regions."""

from __future__ import annotations

import functools
import math
import operator
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

import graphopt
from graphopt.algebra.fingerprint import PRIMES
from tests.algebra.comparison import BEFORE, Always, difference, optimized_always

Shapes = tuple[tuple[int, ...], ...]
Function = Callable[..., Any]


def integers(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randint(-2, 3, shape, generator=generator).to(dtype) for shape in shapes)


SQUARE, V = (7, 7), (7,)


def two_rows(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
    p = a @ b
    return p[0], p[1]


def all_and_a_row(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
    p = a @ b
    return p, p[1]


def a_view_of_an_argument(a: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    turned = a.t()
    return turned[1:], turned @ a @ x


def the_argument_itself(a: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    same = torch.positive(x.contiguous())
    return same, a @ a @ same


def a_write_in_between(a: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = a @ a @ x
    a.add_(1)
    return y, a @ a @ x


def a_row_that_is_written(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    p = a @ b
    p[0].add_(1)
    return p.sum()


def memory_that_is_read_as_such(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    row = (a @ b)[1]
    return row.as_strided((7,), (1,), 0) + 0


KEPT: dict[str, tuple[Function, Shapes]] = {
    "two rows of one tensor": (two_rows, (SQUARE, SQUARE)),
    "a tensor and its row": (all_and_a_row, (SQUARE, SQUARE)),
    "a view of an argument": (a_view_of_an_argument, (SQUARE, V)),
    "an argument as it is": (the_argument_itself, (SQUARE, V)),
    "a write in between": (a_write_in_between, (SQUARE, V)),
    "a row that is written": (a_row_that_is_written, (SQUARE, SQUARE)),
    "memory that is read as such": (memory_that_is_read_as_such, (SQUARE, SQUARE)),
    "a transpose restrided": (lambda a, x: a.t().as_strided((7, 7), (7, 1)) @ a @ x, (SQUARE, V)),
    "a lazy minus": (lambda a, x: torch._neg_view(a) @ a @ x, (SQUARE, V)),
    "sums over parts of other sizes": (
        lambda a, b: a[:, :5] @ b[:5] + a[:, :6] @ b[:6], (SQUARE, SQUARE),
    ),
    "sums that start alike": (
        lambda x: (x[0:10].sum() + x[3:13].sum(), x[0:20:2].sum() + x[1:20:2].sum()), ((20,),),
    ),
    "scales that a field takes for nothing": (
        lambda a, b, c: ((a @ b)[0] * float(PRIMES[0]), (a @ c)[0] * float(PRIMES[0])), (SQUARE,) * 3,
    ),
    "a scale of 2³¹": (lambda a, b: ((a @ b)[0] * 2.0**31, (a @ b)[0]), (SQUARE, SQUARE)),
    "a sum of a number": (lambda a, x: (a @ a @ x).sum().sum(0).sum(-1), (SQUARE, V)),
    "a result that is expanded": (lambda a, x: (a @ a @ x).expand(4, 7), (SQUARE, V)),
    "the same result twice": (lambda a, x: (a @ a @ x, a @ a @ x), (SQUARE, V)),
    "what a sum takes out of terms with the same indices": (
        lambda a, b: (a + b) @ (a + b) @ (a + b) @ (a + b), (SQUARE, SQUARE),
    ),
    "terms that cancel": (lambda a, b, c: a @ b - a @ b + c, (SQUARE,) * 3),
    "all terms cancel": (lambda a, b: a @ b - a @ b + 2, (SQUARE, SQUARE)),
    "a repeat that is none": (lambda a, b, c: (a @ b @ c @ a @ b, a @ b @ a @ b @ c), (SQUARE,) * 3),
    "functions in between": (
        lambda a, b, x: (a @ torch.relu(b @ x), torch.relu(a @ b) @ x), (SQUARE, SQUARE, V),
    ),
    "a promoted operand": (lambda a, x: (a @ a @ x) + x.to(torch.float32), (SQUARE, V)),
    "one element": (lambda a, x: a @ a @ x, ((1, 1), (1,))),
    "parts of a mean of one": (lambda a: sum(a.mean(0) @ row for row in a.mean(0).unbind()), ((1, 7, 7),)),
    "parts of a transpose": (
        lambda a: (torch.stack([a @ r for r in a.t()]), a.t().unbind()[2] * 2), (SQUARE,)
    ),
    "one part that is needed as it is": (
        lambda a, x: (torch.stack([a @ r for r in (a @ a).unbind()]), (a @ a).unbind()[0].relu()), (SQUARE, V)
    ),
    "parts that are returned": (lambda a, b: (a @ b).chunk(2), (SQUARE, SQUARE)),
    "a part that is written": (
        lambda a, b: (torch.stack([(p := (a @ b).unbind())[0] @ b, p[1].add_(1)]), p[0] @ a), (SQUARE, SQUARE)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_it_is_kept(name: str) -> None:
    function, shapes = KEPT[name]
    found = difference(function, lambda dtype: integers(*shapes, dtype=dtype), torch.float64)
    assert found is None, found


def test_division_by_the_size_of_a_field_is_no_step_in_it() -> None:
    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b / float(PRIMES[0])).sum() / float(PRIMES[1])

    optimized = always(function, integers(SQUARE, SQUARE))
    a, b = integers(SQUARE, SQUARE)
    assert torch.allclose(optimized(a, b), function(a, b))


def always(function: Function, args: tuple[torch.Tensor, ...], **options: Any) -> graphopt.api.Optimized:
    """Optimised, with whatever rewrite is found."""
    with torch.no_grad():
        chosen = [*BEFORE, Always(), "dead-code"]
        return graphopt.optimize(function, args, passes=chosen, **{"verify": False, **options})


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_other_dtypes_are_not_read(dtype: torch.dtype) -> None:
    def function(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return ((a + b) + a) * b, (a * b).sum(0), a.conj() * a

    args = integers(SQUARE, SQUARE, dtype=dtype)
    for new, old in zip(always(function, args)(*args), function(*args), strict=True):
        assert torch.equal(new, old)


def test_a_complex_product_stays_conjugated() -> None:
    args = tuple(torch.randn(n, dtype=torch.complex64) for n in ((7, 7), (7,), (7,)))

    def function(a: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.vdot(a.mH @ a @ x, y)

    assert torch.equal(always(function, args)(*args), function(*args))


def test_a_scale_that_overflows_on_the_way_stays_in_parts() -> None:
    def function(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (a @ a @ x) * 1e200 * 1e200

    args = integers(SQUARE, V)
    assert torch.equal(always(function, args)(*args), function(*args))


def test_a_scale_that_float16_does_not_have_stays_in_parts() -> None:
    def function(a: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return a @ (x * 300 * 300) + y * 300 * 300

    args = tuple(0.001 * one for one in integers(SQUARE, V, V, dtype=torch.float16))
    assert torch.allclose(always(function, args)(*args), function(*args), rtol=0.02)


def test_an_order_that_overflows_in_float16_is_refused() -> None:
    def function(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return ((q * 0.001) @ k.t()) @ (v * 0.001)

    args = tuple(torch.full(shape, 100.0, dtype=torch.float16) for shape in ((64, 16), (64, 16), (64, 16)))
    optimized = always(function, args, verify=True, measure=False)
    assert bool(optimized(*args).isfinite().all())


def test_a_singular_matrix_still_raises() -> None:
    def function(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        y = torch.linalg.inv(a) @ x
        return y - y + a @ a @ x

    optimized = always(function, (torch.eye(7), torch.ones(7)))
    with pytest.raises(torch.linalg.LinAlgError):
        optimized(torch.zeros(7, 7), torch.ones(7))


def test_random_draws_stay_apart() -> None:
    def function(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return a @ (torch.rand(7, 7) @ x) + a @ (torch.rand(7, 7) @ x)

    args = integers(SQUARE, V, dtype=torch.float32)
    optimized = always(function, args)
    torch.manual_seed(0)
    expected = function(*args)
    torch.manual_seed(0)
    assert torch.allclose(optimized(*args), expected, atol=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0])
def test_what_is_finite_stays_finite(value: float) -> None:
    def function(a: torch.Tensor, b: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return a @ b @ x, (a @ b)[2:], a @ b + a @ x[:, None], (a + b) @ x, (a @ b).sum(0)

    args = integers(SQUARE, SQUARE, V)
    optimized = always(function, args)
    for place in range(3):
        special = [one.clone() for one in args]
        special[place][(3,) * special[place].dim()] = value
        with torch.no_grad():
            for new, old in zip(optimized(*special), function(*special), strict=True):
                finite = old.isfinite()
                assert torch.equal(new[finite], old[finite])


def test_what_gradients_flow_through_stays() -> None:
    def function(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return a @ a @ x

    args = torch.randn(64, 64, requires_grad=True), torch.randn(64)
    optimized = graphopt.optimize(function, args, passes=[*BEFORE, Always()], verify=False)
    loss = optimized(*args).square().sum()
    found = torch.autograd.grad(loss, args[0])
    assert torch.equal(*found, *torch.autograd.grad(function(*args).square().sum(), args[0]))


BEST: dict[str, tuple[Function, Shapes]] = {
    "a chain in its best order": (lambda a, b, x: a @ (b @ x), ((256, 256), (256, 256), (256,))),
    "a small chain": (lambda a, b, x: a @ b @ x, ((4, 4), (4, 4), (4,))),
    "a low rank that is not folded": (
        lambda x, w, b, a: x @ w + (x @ b) @ a, ((4, 512), (512, 512), (512, 8), (8, 512)),
    ),
    "a Kronecker product that is not expanded": (
        lambda a, b, x: a @ x @ b.t(), ((32, 32), (32, 32), (32, 32)),
    ),
    "attention over a short sequence": (lambda q, k, v: (q @ k.t()) @ v, ((16, 64),) * 3),
    "a row of one operand": (lambda a, b: a[2] @ b, ((256, 256), (256, 256))),
    "a product and its repeat": (lambda a, b: (a @ b) @ (a @ b), ((256, 256), (256, 256))),
    "a sum before a product": (lambda a, b, c: a @ (b + c), ((256, 256),) * 3),
    "a function in between": (lambda a, b, x: a @ torch.relu(b @ x), ((256, 256), (256, 256), (256,))),
}  # fmt: skip


@pytest.mark.parametrize("name", BEST)
def test_what_is_best_already_stays(name: str) -> None:
    function, shapes = BEST[name]
    args = tuple(torch.ones(shape) for shape in shapes)
    with torch.no_grad():
        chosen = [*BEFORE, "sum-product", "dead-code"]
        report = graphopt.optimize(function, args, passes=chosen, verify=False).report
    assert not [step for step in report.steps if step.pass_name == "sum-product"]


LONG: dict[str, tuple[Function, Shapes]] = {
    "a chain of 40": (lambda *a: functools.reduce(operator.matmul, a), ((8, 8),) * 40),
    "16 factors element by element": (lambda *a: functools.reduce(operator.mul, a).sum(), ((8, 8),) * 16),
    "a power": (lambda a: functools.reduce(operator.matmul, [a] * 16), ((8, 8),)),
    "a sum of 100 products": (
        lambda *a: functools.reduce(operator.add, [p @ q for p in a for q in a]), ((8, 8),) * 10,
    ),
    "a product of sums": (lambda a, b: functools.reduce(operator.matmul, [a + b] * 5), ((8, 8), (8, 8))),
    "an unrolled loop": (
        lambda a, b, x: functools.reduce(lambda x, _: a @ x + b, range(60), x), ((8, 8), (8,), (8,)),
    ),
    "a residual stream": (lambda x, w: functools.reduce(lambda x, _: x + w, range(300), x), ((8, 8), (8, 8))),
    "scales of many digits": (lambda x: functools.reduce(lambda x, _: x * 1.0001, range(500), x), ((8, 8),)),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_the_search_ends_in_time(name: str) -> None:
    function, shapes = LONG[name]
    args = tuple(torch.ones(shape, dtype=torch.float64) for shape in shapes)
    started = time.thread_time()
    always(function, args)
    assert time.thread_time() - started < 10  # without bounds, minutes


@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize(
    "what", ["flip", "roll", "sum", "mean", "diff", "cumsum", "unbind", "narrow", "movedim"]
)
def test_a_tensor_without_dimensions_has_one_to_some_operators(what: str, dim: int) -> None:
    programs: dict[str, Function] = {
        "flip": lambda x: x.flip(dim) * 2,
        "roll": lambda x: x.roll(1) * 2,
        "sum": lambda x: x.sum(dim) * 2,
        "mean": lambda x: x.mean(dim, keepdim=True) * 2,
        "diff": lambda x: x.unsqueeze(dim).diff() * 2,
        "cumsum": lambda x: x.cumsum(dim) * 2,
        "unbind": lambda x: x.expand(1).unbind(dim)[0] * 2,
        "narrow": lambda x: x.expand(3).narrow(dim, 0, 1) * 2,
        "movedim": lambda x: x.movedim(dim, 0) * 2,
    }
    x = torch.tensor(3.0)
    with torch.no_grad():
        found = optimized_always(programs[what], (x,))
        assert torch.equal(found(x), programs[what](x))


def test_what_is_read_of_a_region_leaves_no_mode_behind() -> None:
    def program(x: torch.Tensor) -> None:
        with torch.enable_grad():
            part = x.as_strided((2, 2), (1, 1), 1)
        part.split([1, 1])

    with torch.no_grad():
        graphopt.optimize(program, (torch.arange(6).reshape(2, 3),), verify=False)
        assert not torch.is_grad_enabled()
