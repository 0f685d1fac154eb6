"""Every operator that is read computes what its polynomial says: compared with torch on small integers."""

from collections.abc import Callable

import pytest
import torch

import graphopt
from graphopt.algebra.families import united
from graphopt.algebra.forms import Readings
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.reading import read_all
from graphopt.ir.graph import Graph, Value
from graphopt.ir.types import TensorType
from tests.algebra.evaluation import evaluated

A, B, C = (3, 4), (4, 5), (5, 3)
SQUARE, V, W, X = (4, 4), (4,), (3,), (2, 3, 4)

PROGRAMS: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "mm": (lambda a, b: torch.mm(a, b), (A, B)),
    "bmm": (lambda a, b: torch.bmm(a, b), ((2, 3, 4), (2, 4, 5))),
    "mv": (lambda a, v: torch.mv(a, v), (A, V)),
    "dot": (lambda a, b: torch.dot(a, b), (V, V)),
    "vdot": (lambda a, b: torch.vdot(a, b), (V, V)),
    "outer": (lambda a, b: torch.outer(a, b), (V, W)),
    "inner": (lambda a, b: torch.inner(a, b), (A, (5, 4))),
    "inner of a number": (lambda a, b: torch.inner(a, b), ((), A)),
    "matmul of matrices": (lambda a, b: a @ b, (A, B)),
    "matmul of a vector and a matrix": (lambda a, b: a @ b, (V, B)),
    "matmul of vectors": (lambda a, b: a @ b, (V, V)),
    "matmul, broadcast": (lambda a, b: a @ b, ((2, 1, 3, 4), (6, 4, 5))),
    "matmul of a batch and a vector": (lambda a, b: a @ b, (X, V)),
    "linear": (lambda x, w, b: torch.nn.functional.linear(x, w, b), (X, (5, 4), (5,))),
    "linear without bias": (lambda x, w: torch.nn.functional.linear(x, w), (X, (5, 4))),
    "linear with a vector": (lambda x, w: torch.nn.functional.linear(x, w), (X, V)),
    "bilinear": (
        lambda a, b, w, c: torch.nn.functional.bilinear(a, b, w, c), ((2, 3), (2, 4), (5, 3, 4), (5,)),
    ),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=2, alpha=3), ((5,), A, B)),
    "addmv": (lambda c, a, b: torch.addmv(c, a, b, beta=0.5), (W, A, V)),
    "addr": (lambda c, a, b: torch.addr(c, a, b, alpha=2), ((4, 3), V, W)),
    "addbmm": (lambda c, a, b: torch.addbmm(c, a, b), ((3, 5), (2, 3, 4), (2, 4, 5))),
    "baddbmm": (lambda c, a, b: torch.baddbmm(c, a, b, beta=3), ((2, 3, 5), (2, 3, 4), (2, 4, 5))),
    "addcmul": (lambda c, a, b: torch.addcmul(c, a, b, value=2), (A, A, V)),
    "einsum": (lambda a, b: torch.einsum("ij,jk->ki", a, b), (A, B)),
    "einsum without an arrow": (lambda a, b: torch.einsum("ij,jk", a, b), (A, B)),
    "einsum with dots": (lambda a, b: torch.einsum("...ij,jk->k...i", a, b), (X, B)),
    "einsum with dots on both": (lambda a, b: torch.einsum("...ij,...jk", a, b), ((2, 3, 4), (6, 2, 4, 5))),
    "einsum of a diagonal": (lambda a: torch.einsum("ii->i", a), (SQUARE,)),
    "einsum of three": (lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), (A, B, C)),
    "einsum that sums": (lambda a: torch.einsum("bij->j", a), (X,)),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=([1, 2], [0, 1])), (X, (3, 4, 5))),
    "tensordot of negative dimensions": (lambda a, b: torch.tensordot(a, b, dims=([-1], [-2])), (X, B)),
    "multi_dot": (lambda a, b, c: torch.linalg.multi_dot([a, b, c]), (A, B, C)),
    "matrix_power": (lambda a: torch.linalg.matrix_power(a, 3), (SQUARE,)),
    "vecdot": (lambda a, b: torch.linalg.vecdot(a, b), (X, X)),
    "vecdot along another dimension": (lambda a, b: torch.linalg.vecdot(a, b, dim=1), (X, X)),
    "kron": (lambda a, b: torch.kron(a, b), (A, (2, 3))),
    "trace": (lambda a: torch.trace(a), (SQUARE,)),
    "add": (lambda a, b: torch.add(a, b, alpha=3), (X, V)),
    "add a number": (lambda a: a + 2, (A,)),
    "sub": (lambda a, b: torch.sub(a, b, alpha=2), (A, V)),
    "a number less it": (lambda a: 3 - a, (A,)),
    "rsub": (lambda a, b: torch.rsub(a, b, alpha=2), (A, V)),
    "mul": (lambda a, b: a * b, ((3, 1), (1, 4))),
    "mul by a number": (lambda a: a * 0.5, (A,)),
    "div": (lambda a: a / 4, (A,)),
    "neg": (lambda a: -a, (A,)),
    "square": (lambda a: a.square(), (A,)),
    "pow": (lambda a: a**3, (A,)),
    "sum": (lambda a: a.sum(), (X,)),
    "sum over dimensions": (lambda a: a.sum((0, -1)), (X,)),
    "sum that keeps a dimension": (lambda a: a.sum(1, keepdim=True), (X,)),
    "sum of what is broadcast": (lambda a: a.expand(6, 4).sum(0), ((1, 4),)),
    "mean": (lambda a: a.mean(), ((2, 4),)),
    "mean over a dimension": (lambda a: a.mean(-1), (X,)),
    "transposes": (lambda a: a.t().mT.transpose(0, 1).permute(1, 0), (A,)),
    "view": (lambda a: a.view(6, 2, 2).transpose(0, 2), (X,)),
    "reshape": (lambda a: a.reshape(-1), (X,)),
    "select and slice": (lambda a: a[1, :, 1::2], (X,)),
    "diagonal": (lambda a: a.diagonal(1), (A,)),
    "unfold": (lambda a: a.unfold(0, 2, 1), (A,)),
    "copies": (lambda a: a.t().contiguous().clone() * 1, (A,)),
    "a product that is reshaped": (lambda a, b: (a @ b).view(3, 5, 1).transpose(0, 1)[2:], (A, B)),
    "heads": (lambda a, b: (a @ b).view(2, 3, 2, 3).transpose(1, 2).sum(-1), (X, (4, 6))),
    "a product of what is reshaped in two ways": (
        lambda a, b: a.view(6, 4).view(2, 12) * b.view(2, 12), (X, (6, 2, 2)),
    ),
    "eye": (lambda a: a + torch.eye(3, 4), (A,)),
    "eye in a product": (lambda a, b: (torch.eye(3) - b @ b) @ a, (A, (3, 3))),
    "the trace of an identity": (lambda a: a * torch.trace(torch.eye(5)), (A,)),
    "filled": (lambda a: a - torch.ones(4) + torch.full((3, 1), 2.0) + torch.zeros(3, 4), (A,)),
    "filled like another": (lambda a: a + torch.ones_like(a) + a.new_full((4,), 3.0), (A,)),
    "diag of a vector": (lambda v, a: torch.diag(v) @ a @ torch.diag(v), (V, SQUARE)),
    "diag of a matrix": (lambda a: torch.diag(a, 1), (A,)),
    "cat": (lambda a, b: torch.cat([a, b], 1), (A, (3, 2))),
    "cat in a product": (lambda a, b, c: torch.cat([a, b], -1) @ c, (A, (3, 1), (5, 2))),
    "cat on both sides": (
        lambda a, b, c, d: torch.cat([a, b], 1) @ torch.cat([c, d]), (A, (3, 2), (4, 2), (2, 2))
    ),
    "cat on both sides, cut elsewhere": (
        lambda a, b, c, d: torch.cat([a, b], 1) @ torch.cat([c, d]), (A, (3, 2), (3, 2), (3, 2))
    ),
    "a part of a cat": (lambda a, b: torch.cat([a, b])[2:5, 1], (A, A)),
    "a part of a cat that is one of its tensors": (lambda a, b: torch.cat([a, b])[3:], (A, A)),
    "cat of what is broadcast": (lambda a, v: torch.cat([a, v.expand(3, 4)], 1).sum(1), (A, V)),
    "cat, reshaped": (lambda a, b: torch.cat([a, b]).view(2, 3, 4).sum(0), (A, A)),
    "stack": (lambda a, b: torch.stack([a, b], 1).sum(1) + torch.stack([a, b])[1], (A, A)),
    "stack along the last": (lambda v, w: torch.stack([v, w], -1), (V, V)),
    "vstack": (lambda a, v: torch.vstack([a, v]), (A, V)),
    "hstack": (lambda a, b: torch.hstack([a, b]), (A, (3, 2))),
    "hstack of vectors": (lambda v, w: torch.hstack([v, w]), (V, W)),
    "dstack": (lambda a, b, v: torch.dstack([a, b])[0] * torch.dstack([v, v])[0], (A, A, V)),
    "column_stack": (lambda v, a: torch.column_stack([v, a]), (W, A)),
    "unbind": (lambda x, a: torch.stack([a @ row for row in x]), ((5, 4), A)),
    "unbind along the last, and back": (lambda x: torch.stack(x.unbind(-1)[::-1], 1), (X,)),
    "chunk": (lambda x, a: torch.cat([part @ a for part in x.chunk(2, -1)], 1), (X, (2, 5))),
    "split": (lambda x: (lambda p, q, r: p + q * r)(*x.split(1)), (A,)),
    "split_with_sizes": (lambda x, v: torch.outer(*x.split([1, 3])) * v, (V, W)),
    "tensor_split": (lambda x: (lambda p, q: q - p[:1])(*x.tensor_split(2, 1)), (A,)),
    "slices put side by side": (
        lambda x, w: torch.cat([x @ w[:, 2 * i : 2 * i + 2] for i in range(4)], 1), (A, (4, 8))
    ),
    "slices put side by side, and something else": (
        lambda x, w, v: torch.cat([x @ w[:, 2 * i : 2 * i + 2] for i in range(4)], 1) + v, (A, (4, 8), (8,))
    ),
    "a mean squared error": (lambda a, v: torch.nn.functional.mse_loss(a, v.expand(3, 4)), (A, V)),
    "squared errors, summed": (
        lambda a: torch.nn.functional.mse_loss(a, a.t() @ a, reduction="sum"), (SQUARE,)
    ),
    "squared errors": (lambda a, b: torch.nn.functional.mse_loss(a, b, reduction="none"), (A, A)),
    "block_diag": (lambda a, b, x: torch.block_diag(a, b) @ x, (A, (2, 3), (7,))),
    "pad": (lambda a: torch.nn.functional.pad(a, (1, 2, 0, 1)), (A,)),
    "pad in a product": (lambda a, b: torch.nn.functional.pad(a, (1, 0)) @ b, (A, (5, 2))),
    "a loop over columns": (lambda a, x: torch.stack([a @ x[:, i] for i in range(5)], 1), (A, B)),
    "a loop over columns, backwards": (lambda a, x: torch.stack([a @ x[:, 4 - i] for i in range(5)]), (A, B)),
    "a loop over some rows": (
        lambda x, a: torch.stack([x[i] @ a @ x[i] for i in (0, 2, 4)]), ((5, 4), SQUARE)
    ),
    "a loop over rows in no order": (
        lambda x, a: torch.stack([x[i] @ a for i in (0, 1, 3)]), ((5, 4), SQUARE)
    ),
    "a loop over two": (lambda x, y: torch.stack([x[i, None] * y[:, 2 * i] for i in range(3)]), (A, (4, 5))),
    "itself twice": (lambda a: a @ a.t() @ a + a, (A,)),
    "terms that cancel": (lambda a, b: (a + b) - a, (A, A)),
}  # fmt: skip


def captured(program: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...]) -> Graph:
    return graphopt.optimize(program, args, passes=[], verify=False).graph


def polynomial(graph: Graph) -> Polynomial:
    found: dict[str, Polynomial] = {}
    for entry in graph.inputs:
        assert isinstance(entry.value.type, TensorType)
        found[entry.value.name] = leaf(entry.value, entry.value.type.shape)  # type: ignore[arg-type]
    for node in graph.nodes:
        made = read_all(node, lambda value: found[value.name])
        found.update((value.name, p) for value, p in zip(node.results, made, strict=True))
    (output,) = graph.outputs
    assert isinstance(output, Value)
    return found[output.name]


def integers(*shapes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randint(-4, 5, shape).float() for shape in shapes)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_polynomial_is_what_the_operator_computes(name: str) -> None:
    program, shapes = PROGRAMS[name]
    args = integers(*shapes)
    graph = captured(program, args)
    p = polynomial(graph)
    values = {entry.value.name: arg for entry, arg in zip(graph.inputs, args, strict=True)}
    assert torch.equal(evaluated(p, values), program(*(arg.double() for arg in args)))


ONCE = Readings()
"""What was read in all of the tests below."""


def remembered(graph: Graph, called: str) -> Polynomial | None:
    """As `polynomial`, over inputs that are called so, where all that was read before is known."""
    inputs = (entry.value for entry in graph.inputs)
    known = {value.name: ONCE.leaf(Value(called.format(value.name), value.type)) for value in inputs}
    for node in graph.nodes:
        made = ONCE.of(node, [known[value.name] for value in node.operands])
        if made is None:
            return None
        known.update((value.name, one) for value, one in zip(node.results, made, strict=True))
    (output,) = graph.outputs
    assert isinstance(output, Value)
    found = known[output.name]
    assert found is not None
    return found.polynomial


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_was_read_of_others_before_is_read_right(name: str) -> None:
    program, shapes = PROGRAMS[name]
    args = integers(*shapes)
    graph = captured(program, args)
    for called in ("other {}", "{}"):
        p = remembered(graph, called)
        values = {called.format(entry.value.name): arg for entry, arg in zip(graph.inputs, args, strict=True)}
        assert p is not None
        assert torch.equal(evaluated(p, values), program(*(arg.double() for arg in args)))


def test_a_sum_over_a_loop_is_one_term() -> None:
    program = lambda u, v: sum(torch.outer(u[i], v[i]) for i in range(5))  # noqa: E731
    args = integers((5, 3), (5, 4))
    graph = captured(program, args)  # type: ignore[arg-type]
    p = united(polynomial(graph))
    values = {entry.value.name: arg for entry, arg in zip(graph.inputs, args, strict=True)}
    assert len(p.terms) == 1
    assert torch.equal(evaluated(p, values), args[0].t().double() @ args[1].double())


def test_a_sum_that_leaves_something_out_stays() -> None:
    program = lambda u, v: sum(torch.outer(u[i], v[j]) for i, j in ((0, 0), (1, 1), (2, 3)))  # noqa: E731
    args = integers((5, 3), (5, 4))
    graph = captured(program, args)  # type: ignore[arg-type]
    assert len(united(polynomial(graph)).terms) == 3


UNREAD: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "a function that is no polynomial": (lambda a: a.exp(), (A,)),
    "division by a tensor": (lambda a, b: a / b, (A, A)),
    "division that rounds": (lambda a: torch.div(a, 2, rounding_mode="floor"), (A,)),
    "a negative power": (lambda a: a**-1, (A,)),
    "a fractional power": (lambda a: a**1.5, (A,)),
    "an infinite number": (lambda a: a * float("inf"), (A,)),
    "a sum in another dtype": (lambda a: a.sum(dtype=torch.float64), (A,)),
    "padding with what is not zero": (lambda a: torch.nn.functional.pad(a, (1, 1), value=1.0), (A,)),
    "padding that repeats": (lambda a: torch.nn.functional.pad(a[None], (1, 1), mode="reflect")[0], (A,)),
    "padding that cuts": (lambda a: torch.nn.functional.pad(a, (-1, 1)), (A,)),
    "sizes that do not nest": (lambda a: a.reshape(4, 3), (A,)),
    "an empty tensor": (lambda a: a + 1, ((0, 3),)),
}


@pytest.mark.parametrize("name", UNREAD)
def test_it_does_not_read(name: str) -> None:
    program, shapes = UNREAD[name]
    graph = captured(program, integers(*shapes))
    with pytest.raises(NoPolynomial):
        polynomial(graph)
    assert remembered(graph, "{}") is None


def test_what_grows_too_large_is_not_read() -> None:
    def program(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a + b) * (a + b) * (a + b) * (a + b) * (a + b) * (a + b)

    with pytest.raises(NoPolynomial):
        polynomial(captured(program, integers(A, A)))
