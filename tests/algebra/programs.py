"""Random programs of linear algebra: statements, grown one by one on small integers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

SIZES = (1, 2, 3, 4)
LARGEST = 2.0**14
"""Of any value in a run; products of such are exact in float64, in whatever order."""
MOST_ELEMENTS = 300


class Draw(Protocol):
    """Where decisions come from."""

    def below(self, count: int) -> int:
        """A number from 0 to ``count - 1``."""


@dataclass(frozen=True)
class Program:
    """Inputs a, b and so on as expressions, statements that make t0, t1 and so on, and what is returned."""

    inputs: tuple[str, ...]
    body: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def text(self) -> str:
        """As source."""
        names = ", ".join("abcd"[: len(self.inputs)])
        lines = [f"def f({names}):", *(f"    {line}" for line in self.body)]
        lines.append(f"    return {', '.join(self.outputs)}")
        lines.append(f"inputs = {', '.join(self.inputs)}")
        return "\n".join(lines)

    def function(self) -> Callable[..., Any]:
        """As a function."""
        scope: dict[str, Any] = {"torch": torch}
        exec("\n".join(self.text.splitlines()[:-1]), scope)
        made: Callable[..., Any] = scope["f"]
        return made

    def arguments(self, dtype: torch.dtype, more: int = 0) -> tuple[torch.Tensor, ...]:
        """Small integers, the same each time, of sizes that are by so many `more`, but for those of 1."""
        generator = torch.Generator().manual_seed(len(self.text))

        def ints(*sizes: int) -> torch.Tensor:
            shape = [size + more if size > 1 else size for size in sizes]
            return torch.randint(-2, 3, shape, generator=generator).to(dtype)

        scope: dict[str, Any] = {"torch": torch, "ints": ints}
        for name, text in zip("abcd", self.inputs, strict=False):
            scope[name] = eval(text, scope)
        return tuple(scope[name] for name in "abcd"[: len(self.inputs)])


Env = dict[str, torch.Tensor]
Pool = Callable[[Env], Iterator[str]]


def _of_rank(env: Env, rank: int) -> list[tuple[str, torch.Tensor]]:
    return [(name, value) for name, value in env.items() if value.dim() == rank]


def _pairs(env: Env, left: int, right: int) -> Iterator[tuple[str, str, torch.Tensor, torch.Tensor]]:
    for (m, a), (n, b) in itertools.product(_of_rank(env, left), _of_rank(env, right)):
        yield m, n, a, b


def _matrix_products(env: Env) -> Iterator[str]:
    for m, n, a, b in _pairs(env, 2, 2):
        if a.shape[1] == b.shape[0]:
            yield from (f"{m} @ {n}", f"torch.mm({m}, {n})", f"torch.einsum('ij,jk->ik', {m}, {n})")
            yield from (f"torch.einsum('ij,jk->ki', {m}, {n})", f"torch.tensordot({m}, {n}, 1)")
            yield f"torch.einsum('ij,jk->i', {m}, {n})"
        if a.shape[1] == b.shape[1]:
            yield from (f"torch.nn.functional.linear({m}, {n})", f"{m} @ {n}.t()", f"torch.inner({m}, {n})")
            yield f"torch.einsum('ij,kj->ik', {m}, {n})"
        if a.shape[0] == b.shape[0]:
            yield from (f"{m}.t() @ {n}", f"torch.tensordot({m}, {n}, ([0], [0]))", f"{m}.mT @ {n}")
        if a.shape == b.shape:
            yield from (f"({m} * {n}).sum(-1)", f"torch.einsum('ij,ij->i', {m}, {n})", f"({m} * {n}).sum()")
            yield from (f"({m} @ {n}.t()).trace()", f"({m} @ {n}.t()).diagonal()")


def _vectors(env: Env) -> Iterator[str]:
    for m, n, a, b in _pairs(env, 2, 1):
        if a.shape[1] == b.shape[0]:
            yield from (f"{m} @ {n}", f"torch.mv({m}, {n})", f"torch.einsum('ij,j->i', {m}, {n})")
            yield from (f"torch.nn.functional.linear({n}, {m})", f"({m} * {n}).sum(1)", f"{m} * {n}")
        if a.shape[0] == b.shape[0]:
            yield from (f"{n} @ {m}", f"{m}.t() @ {n}", f"{n}[:, None] * {m}")
    for m, n, a, b in _pairs(env, 1, 1):
        yield from (f"torch.outer({m}, {n})", f"{m}[:, None] * {n}", f"torch.einsum('i,j->ij', {m}, {n})")
        if a.shape == b.shape:
            yield from (f"torch.dot({m}, {n})", f"{m} @ {n}", f"torch.linalg.vecdot({m}, {n})")


def _batched(env: Env) -> Iterator[str]:
    for m, n, a, b in _pairs(env, 3, 3):
        if a.shape[2] == b.shape[1] and (a.shape[0] == b.shape[0]):
            yield from (f"torch.bmm({m}, {n})", f"{m} @ {n}", f"torch.einsum('bij,bjk->bik', {m}, {n})")
        if a.shape[0] == b.shape[0] and a.shape[2] == b.shape[2]:
            yield from (f"{m} @ {n}.mT", f"{m} @ {n}.transpose(1, 2)")
    for m, n, a, b in _pairs(env, 3, 2):
        if a.shape[2] == b.shape[0]:
            yield from (
                f"{m} @ {n}",
                f"torch.tensordot({m}, {n}, 1)",
                f"torch.einsum('bij,jk->bik', {m}, {n})",
            )
        if a.shape[2] == b.shape[1]:
            yield f"torch.nn.functional.linear({m}, {n})"
    for m, n, a, b in _pairs(env, 3, 1):
        if a.shape[2] == b.shape[0]:
            yield from (f"{m} @ {n}", f"({m} * {n}).sum(-1)")


def _sums(env: Env) -> Iterator[str]:
    for (m, a), (n, b) in itertools.product(env.items(), env.items()):
        if a.shape == b.shape:
            yield from (f"{m} + {n}", f"{m} - {n}", f"torch.add({m}, {n}, alpha=2)", f"{m} * {n}")
            yield from (f"torch.sub({m}, {n}, alpha=0.5)", f"torch.addcmul({m}, {n}, {n}, value=-1)")
        elif 0 < b.dim() < a.dim() or b.dim() == a.dim():
            yield from (f"{m} + {n}", f"{m} * {n}", f"{m} - {n}")
        elif b.dim() == 0:
            yield from (f"{m} * {n}", f"{m} + {n}")


def _fused(env: Env) -> Iterator[str]:
    for m, n, a, b in _pairs(env, 2, 2):
        if a.shape[1] == b.shape[0]:
            for name, c in env.items():
                if c.dim() in (1, 2) and c.shape[-1] in (1, b.shape[1]):
                    yield f"torch.addmm({name}, {m}, {n}, beta=2, alpha=-1)"
                if c.dim() == 1 and c.shape[0] == b.shape[1]:
                    yield f"torch.nn.functional.linear({m}, {n}.t(), {name})"
    for name, c in _of_rank(env, 2):
        for m, n, a, b in _pairs(env, 1, 1):
            if c.shape == (len(a), len(b)):
                yield f"torch.addr({name}, {m}, {n}, alpha=2)"


def _numbers(env: Env) -> Iterator[str]:
    for m in env:
        yield from (f"{m} * 2", f"{m} / 2", f"-{m}", f"{m} * 0.5", f"3 - {m}", f"{m} + 1", f"{m} * 1")
        yield from (
            f"{m} ** 2",
            f"{m}.square()",
            f"{m} * 0",
            f"torch.rsub({m}, 1)",
            f"{m}.pow(3)",
            f"{m} + 0.0",
        )


def _reduced(env: Env) -> Iterator[str]:
    for m, a in env.items():
        yield f"{m}.sum()"
        for d in range(a.dim()):
            yield from (f"{m}.sum({d})", f"{m}.sum({d - a.dim()}, keepdim=True)")
            if a.shape[d] in (1, 2, 4):
                yield from (f"{m}.mean({d})", f"{m}.mean({d}, True)")
        if a.dim() == 0:
            yield f"{m}.sum(0)"
        if a.dim() == 2:
            yield f"{m}.sum((0, 1), keepdim=True)"
            yield f"torch.trace({m})"


def _views(env: Env) -> Iterator[str]:
    for m, a in env.items():
        if a.dim() >= 2:
            yield from (f"{m}.mT", f"{m}.diagonal(0, -1, -2)", f"{m}.transpose(0, 1)", f"{m}.flatten()")
            yield from (f"{m}.reshape(-1)", f"{m}.permute({', '.join(map(str, range(1, a.dim())))}, 0)")
            yield f"{m}.diagonal(0, 0, 1)"
        for d in range(a.dim()):
            dots = ":, " * d
            yield from (
                f"{m}[{dots}0]",
                f"{m}[{dots}-1]",
                f"{m}[{dots}1:]",
                f"{m}[{dots}::2]",
                f"{m}[{dots}:1]",
            )
            yield from (f"{m}.unsqueeze({d})", f"{m}[{dots}0:2]", f"{m}.narrow({d}, 0, 1)")
            if a.shape[d] == 1:
                yield from (
                    f"{m}.squeeze({d})",
                    f"{m}.expand({', '.join('-1' if i != d else '3' for i in range(a.dim()))})",
                )
            if a.shape[d] >= 2:
                yield f"{m}.unfold({d}, 2, 1)"
            if a.shape[d] == 4:
                yield f"{m}.unflatten({d}, (2, 2))"
        if a.dim() == 1:
            yield f"torch.kron({m}, {m})"
        yield from (f"{m}.contiguous()", f"{m}.clone()", f"torch.relu({m})", f"{m}.abs()", f"{m}.detach()")
        yield from (
            f"{m}.reshape({m}.shape)",
            f"torch.positive({m})",
            f"{m}.view_as({m})",
            f"{m}.neg().relu()",
        )
        yield f"torch.stack([{m}, {m}]).sum(0)"


def _gathers(env: Env) -> Iterator[str]:
    for m, a in env.items():
        if a.dim() == 2:
            rows, last = min(2, a.shape[0]), a.shape[1] - 1
            yield from (
                f"{m}.gather(1, torch.tensor([[{last}, 0, 0]] * {rows}))",
                f"{m}[torch.tensor([0, -1])]",
            )
            yield from (f"{m}.gather(0, torch.tensor([[{a.shape[0] - 1}] * {last + 1}] * 2))",)
            yield f"torch.take_along_dim({m}, torch.tensor([[0, -1, 5]]), 1)"
            yield f"torch.take_along_dim({m}, torch.tensor([[-7]] * {a.shape[0]}), 1)"
            yield f"torch.index_select({m}, 1, torch.tensor([{last}, 0]))"


def _blocks(env: Env) -> Iterator[str]:
    for m, n, a, b in _pairs(env, 2, 2):
        if a.shape[0] == b.shape[0]:
            yield f"torch.cat([{m}, {n}], 1)"
            yield f"torch.kron({m}, {n})"
        if a.shape[1] == b.shape[1]:
            yield f"torch.cat([{m}, {n}])"


def _parts(env: Env) -> Iterator[str]:
    """Tensors taken apart, and put together of what is made of the parts."""
    for m, a in env.items():
        for d in range(a.dim()):
            yield from (f"{m}.unbind({d})[-1]", f"torch.cat({m}.chunk(2, {d})[::-1], {d})")
            yield from (f"torch.stack({m}.split(1, {d})).sum(0)", f"sum({m}.tensor_split(2, {d})[:1])")
            yield f"torch.stack([one * 2 + {m}.sum() for one in {m}.unbind({d})], -1)"
    for m, n, a, b in _pairs(env, 2, 2):
        yield from (f"torch.block_diag({m}, {n})", f"torch.nn.functional.pad({m}, (0, 1, 1, 0))")
        if a.shape[1] == b.shape[1]:
            yield from (f"torch.stack([{m} @ row for row in {n}])", f"sum({m} @ row for row in {n}.unbind())")
            yield f"torch.stack([{m}[0] * row for row in {n}], 1)"
            yield f"torch.vstack([{m}, {n}])"
            if a.shape[0] == a.shape[1]:
                yield f"torch.stack([row @ {m} @ row for row in {n}])"
        if a.shape[0] == b.shape[0]:
            yield f"torch.stack([torch.outer(one, other) for one, other in zip({m}, {n})])"
            yield f"torch.hstack([{m}, {n}])"
        if a.shape[1] == b.shape[0]:
            yield f"torch.cat([{m} @ part for part in {n}.chunk(2, 1)], 1)"
            yield f"torch.cat([part @ {n} for part in {m}.split([1, {len(a) - 1}])])"
            yield f"sum(x @ y for x, y in zip({m}.chunk(2, 1), {n}.chunk(2)))"


def _known(env: Env) -> Iterator[str]:
    """Tensors whose elements do not depend on the inputs, and what is laid out among zeros."""
    for m, a in env.items():
        yield from (f"torch.ones_like({m})", f"torch.full_like({m}, 2)", f"torch.zeros_like({m})")
        if a.dim() >= 1:
            yield from (f"torch.diag_embed({m})", f"torch.nn.functional.pad({m}, (1, 2))")
            yield f"torch.nn.functional.pad(torch.ones_like({m}), (2, 0))"
            eye = f"torch.eye({m}.shape[-1], dtype={m}.dtype)"
            yield from (eye, f"{m} @ {eye}", f"{m} * {eye}", f"({m}.sum() * {eye}).sum(-1)")
        if a.dim() <= 2:
            yield from (f"{m}.sum().expand(2, 3)", f"torch.block_diag({m}.sum().expand(2, 2), {m})")


def _writes(env: Env) -> Iterator[str]:
    for m, a in env.items():
        yield from (f"{m}.add_(1)", f"{m}.mul_(2)", f"{m}.zero_()", f"{m}.relu_()")
        for n, b in env.items():
            if b.shape == a.shape:
                yield from (f"{m}.add_({n})", f"{m}.copy_({n})", f"{m}.sub_({n}, alpha=2)")


KINDS: tuple[Pool, ...] = (
    _matrix_products, _matrix_products, _vectors, _vectors, _batched, _sums, _sums, _fused, _numbers,
    _reduced, _views, _views, _gathers, _blocks, _parts, _known, _writes,
)  # fmt: skip


def grown(draw: Draw, *, statements: int = 8) -> Program:
    """A program that runs."""
    sizes = [SIZES[draw.below(len(SIZES))] for _ in range(2)]
    inputs: list[str] = []
    for number in range(2 + draw.below(3)):
        shape = [sizes[draw.below(2)] for _ in range((2, 1, 3, 2)[draw.below(4)])]
        ints = f"ints({', '.join(map(str, shape))})"
        larger = f"ints({', '.join(str(n + 1) for n in shape)})"
        choices = [
            ints,
            ints,
            f"ints({', '.join(map(str, reversed(shape)))}).permute({_reversed(len(shape))})",
        ]
        choices.append(f"{larger}[{', '.join(['1:'] * len(shape))}]")
        choices += [before for before in "abcd"[:number]] + [f"{b}[:1]" for b in "abcd"[:number]]
        inputs.append(choices[draw.below(len(choices))])
    start = Program(tuple(inputs), (), ())
    env: Env = dict(zip("abcd", start.arguments(torch.float64), strict=False))
    body: list[str] = []
    for number in range(2 + draw.below(statements)):
        pool = sorted(set(KINDS[draw.below(len(KINDS))](env)))
        last = body[-1].split(" ")[0] if body else "a"
        pool = (draw.below(4) and [line for line in pool if last in line]) or pool  # most build on the last
        if not pool:
            continue
        line = f"t{number} = {pool[draw.below(len(pool))]}"
        if _runs(line, env):
            body.append(line)
    made = [line.split(" ")[0] for line in body] or ["a"]
    outputs = [made[-1]]
    names = [*env]
    for _ in range((0, 0, 1, 2)[draw.below(4)]):
        outputs.append(names[draw.below(len(names))])
    return Program(tuple(inputs), tuple(body), tuple(outputs))


def _reversed(rank: int) -> str:
    return ", ".join(map(str, reversed(range(rank))))


def _runs(line: str, env: Env) -> bool:
    """Runs a statement; whether it does, and leaves small numbers."""
    scope: dict[str, Any] = {"torch": torch, **env}
    before = {name: value.clone() for name, value in env.items()}
    try:
        exec(line, scope)
    except (RuntimeError, IndexError):
        return False
    name = line.split(" ")[0]
    made = scope[name]
    after = [made, *env.values()]
    if (
        any(one.numel() > MOST_ELEMENTS or (one.numel() and one.abs().max() > LARGEST) for one in after)
        or made.numel() == 0
    ):
        for key, value in env.items():
            if not torch.equal(value, before[key]):
                value.copy_(before[key])
        return False
    env[name] = made
    return True
