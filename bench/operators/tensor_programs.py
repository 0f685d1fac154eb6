"""Calls of the operators that forward methods make on tensors, in many dtypes and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

_ANY = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.int64,
    torch.bool,
    torch.complex64,
)


def programs() -> Iterator[Callable[[], object]]:
    """Programs to run under the recorder; some raise."""
    torch.manual_seed(0)
    for dtype in _ANY:
        for shape in ((2, 3, 4), (4, 6), (5,), (1, 1), (2, 3, 4, 4)):
            yield from _shapes(dtype, shape)
    yield from _matrices()
    yield from _conversions()
    yield from _constructors()
    yield from _scalars()


def _shapes(dtype: torch.dtype, shape: tuple[int, ...]) -> Iterator[Callable[[], object]]:
    x = torch.ones(shape, dtype=dtype)
    last = shape[-1]
    yield lambda: x[0]
    yield lambda: x[..., 0]
    yield lambda: x[..., -1:]
    yield lambda: x[:, 1:]
    yield lambda: x[..., ::2]
    yield lambda: x[None]
    yield lambda: x.expand(3, *shape)
    yield lambda: x.expand(*shape)
    yield lambda: x.view(-1)
    yield lambda: x.view(shape)
    yield lambda: x.view(torch.uint8)
    yield lambda: x.reshape(-1)
    yield lambda: x.reshape(shape)
    yield lambda: x.flatten()
    yield lambda: x.flatten(1)
    yield lambda: x.unflatten(-1, (1, last))
    yield lambda: x.unflatten(-1, (last, 1))
    yield lambda: x.transpose(0, -1)
    yield lambda: x.permute(*reversed(range(len(shape))))
    yield lambda: (x.t(), x.T)
    yield lambda: (x.mT, x.mH, x.H, x.adjoint())
    yield lambda: x.unsqueeze(0)
    yield lambda: x.unsqueeze(-1)
    yield lambda: x.squeeze()
    yield lambda: x.squeeze(0)
    yield lambda: x.squeeze((0, -1))
    yield lambda: x.split(2, -1)
    yield lambda: x.split([1, last - 1], -1)
    yield lambda: x.chunk(2, -1)
    yield lambda: x.unbind(0)
    yield lambda: x.narrow(-1, 0, 1)
    yield lambda: x.diagonal()
    yield lambda: x.detach()
    yield lambda: torch.ops.aten.alias.default(x)
    yield lambda: torch.ops.aten.lift_fresh_copy.default(x)
    yield lambda: torch.ops.aten.lift_fresh.default(x)
    yield lambda: torch.ops.aten.lift.default(x)
    yield lambda: torch.ops.aten._unsafe_view.default(x, [-1])
    yield lambda: torch.ops.aten._reshape_alias.default(x, list(shape), list(x.stride()))
    yield lambda: torch.ops.aten._conj.default(x)
    yield lambda: torch.ops.aten._neg_view.default(x)
    yield lambda: x.contiguous()
    yield lambda: x.mT.contiguous()
    yield lambda: x.clone()
    yield lambda: x.clone(memory_format=torch.contiguous_format)
    yield lambda: x.repeat(2, *(1 for _ in shape))
    yield lambda: x.repeat_interleave(2, -1)
    yield lambda: torch.cat([x, x], -1)
    yield lambda: torch.cat([x])
    yield lambda: torch.stack([x, x])
    yield lambda: (x.roll(1, -1), x.flip(0))
    yield lambda: (x.movedim(0, -1), x.swapaxes(0, -1), x.swapdims(0, -1), x.ravel())
    yield lambda: (x.expand_as(x), x.view_as(x), x.reshape_as(x), x.sum_to_size(shape))
    yield lambda: torch.broadcast_tensors(x, x[:1])
    yield lambda: torch.meshgrid(x.view(-1), x.view(-1), indexing="ij")
    yield lambda: (x.new_zeros(3), x.new_ones(2, 2), x.new_full((2,), 1), x.new_tensor(2))
    yield lambda: (torch.zeros_like(x), torch.ones_like(x), torch.full_like(x, 1))
    yield lambda: (torch.rand_like(x), torch.randn_like(x))
    yield lambda: (x.bernoulli(), torch.bernoulli(x, 0.5))
    yield lambda: torch.ops.aten.copy.default(x, x[:1])
    yield lambda: x.clone().copy_(x[:1])
    yield lambda: (x.clone().zero_(), x.clone().fill_(1))
    yield lambda: x.clone().fill_(torch.ones((), dtype=dtype))
    yield lambda: x.clone().masked_fill_(torch.ones(last, dtype=torch.bool), 0)
    yield lambda: x[torch.tensor([0, 0])]
    yield lambda: x[:, torch.tensor([0])]
    yield lambda: x[torch.ones(shape, dtype=torch.bool)]
    yield lambda: x.index_select(0, torch.tensor([0]))
    zeros = torch.zeros(shape, dtype=torch.int64)
    yield lambda: x.scatter(-1, zeros, 1)
    yield lambda: x.scatter(-1, zeros, x)
    yield lambda: x.scatter(-1, zeros, 1, reduce="add")
    yield lambda: torch.where(x)
    yield lambda: x.nonzero()
    yield lambda: x.masked_select(torch.ones(last, dtype=torch.bool))
    yield lambda: x.masked_scatter(torch.ones(last, dtype=torch.bool), x)
    yield lambda: x.masked_scatter(torch.zeros(last, dtype=torch.bool), x.view(-1)[:1])
    yield lambda: x.clone().masked_scatter_(torch.zeros(last, dtype=torch.bool), x.view(-1)[:1])
    yield lambda: (x.clamp(0, 1), x.clamp(min=0), x.clamp(max=1), x.clip(0, 1))
    yield lambda: (x.clamp_min(0), x.clamp_max(1), x.clone().clamp_(0, 1))
    yield lambda: (x.quantile(x.view(-1)[:1], -1), x.nanquantile(x.view(-1)[:1], -1))
    yield lambda: (x.quantile(0.5, -1), x.nanquantile(0.5, -1))
    yield lambda: (torch.isin(x, x), torch.isin(x, 1), torch.isin(1, x))
    yield lambda: x.repeat_interleave(torch.ones(last, dtype=torch.int64), -1)
    yield lambda: torch.repeat_interleave(torch.ones(last, dtype=torch.int64))
    yield lambda: (x.norm(), x.norm(2, -1), x.norm(1, (0, -1), keepdim=True), x.norm(p="fro"))
    yield lambda: torch.ops.aten.norm.Scalar(x, 2)
    yield lambda: torch.ops.aten.norm.ScalarOpt_dim(x, 2, [-1])
    yield lambda: torch.ops.aten.split.sizes(x, [1, last - 1], -1)
    yield lambda: x.tensor_split(2, -1)
    yield lambda: torch.ops.aten.unsafe_split_with_sizes.default(x, [1, last - 1], -1)
    yield lambda: torch.ops.aten.to.other(x, x.clone())
    yield lambda: torch.ops.aten.to.other(x, torch.ones(1, dtype=torch.float64))
    yield lambda: (torch.moveaxis(x, 0, -1), torch.moveaxis(x, (0,), (-1,)), torch.conj(x))
    yield lambda: torch.ops.aten.conj.default(x)
    yield lambda: torch.ops.aten.meshgrid.default([x.view(-1), x.view(-1)])
    yield lambda: x.reshape_as(x.mT.contiguous())
    yield lambda: x.mT.reshape_as(x)
    yield lambda: x.mT.reshape_as(x.view(-1))
    yield lambda: x.mT.reshape(-1)
    yield lambda: x.mT.flatten()
    yield lambda: x.mT.ravel()
    yield lambda: torch.searchsorted(x.sort(-1)[0], x, sorter=zeros)
    yield lambda: torch.bucketize(x, x.view(-1).sort()[0])
    yield lambda: (x.unique(dim=0), x.unique(), x.unique_consecutive(dim=0))
    yield lambda: torch.ops.aten.unique_dim.default(x, 0)
    yield lambda: (x.any(), x.all(-1), x.sum(), x.sum(-1), x.mean(), x.mean(-1), x.prod(-1))
    yield lambda: (x.max(), x.max(-1), x.amax(-1), x.argmax(-1), x.min(-1), x.amin(), x.argmin())
    yield lambda: (x.sort(-1), x.argsort(-1), x.topk(1, -1), x.cumsum(-1), x.cumprod(-1))
    yield lambda: (x.var(-1), x.std(), torch.var_mean(x, -1), x.logsumexp(-1), x.median())
    yield lambda: (x.bincount(), F.one_hot(x), torch.histc(x.float()))
    yield lambda: x.gather(-1, zeros)
    yield lambda: x.clone().index_put_((torch.tensor([0]),), x[:1])
    yield lambda: torch.index_put(x, (torch.tensor([0]),), x[:1])
    yield lambda: torch.ops.aten.slice_scatter.default(x, x[:1], 0, 0, 1)
    yield lambda: torch.ops.aten.select_scatter.default(x, x[0], 0, 0)
    for name in (
        "add",
        "sub",
        "mul",
        "div",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "pow",
        "bitwise_and",
    ):
        for other in (2, 0.5, x, True):
            yield lambda n=name, o=other: getattr(x, n)(o)
            yield lambda n=name + "_", o=other: getattr(x.clone(), n)(o)
    yield lambda: (1 - x, 1 / x, 2**x, -x, abs(x), x // 2, x % 2, 2 // x)
    yield lambda: torch.ops.aten.sym_size.int(x, 0)
    yield lambda: torch.ops.aten.sym_size.int(x, -1)
    yield lambda: torch.ops.aten.sym_stride.int(x, 0)
    yield lambda: torch.ops.aten.sym_numel.default(x)
    yield lambda: torch.ops.aten.sym_storage_offset.default(x)
    yield lambda: torch.ops.aten.sym_is_contiguous.default(x)


def _matrices() -> Iterator[Callable[[], object]]:
    """Well-conditioned matrices, for torch's own samples are few and often empty."""
    for dtype in (torch.float32, torch.float64, torch.complex64):
        for batch in ((), (2,)):
            noise = torch.rand(*batch, 4, 4, dtype=dtype) / 8
            a = noise + noise.mH + torch.eye(4, dtype=dtype)
            b = torch.rand(*batch, 4, 2, dtype=dtype)
            lu, pivots = torch.linalg.lu_factor(a)
            lower = torch.linalg.cholesky(a)
            yield lambda a=a: (a.svd(), a.svd(some=False), a.svd(compute_uv=False))
            yield lambda b=b: (b.svd(), torch.linalg.svd(b), torch.linalg.svdvals(b))
            yield lambda a=a: torch.linalg.svd(a, full_matrices=False)
            yield lambda a=a: (a.qr(), torch.linalg.qr(a), torch.linalg.qr(a, "r"))
            for order in (2, -2, 1, -1, float("inf"), "fro", "nuc"):
                yield lambda a=a, o=order: torch.linalg.norm(a, o, dim=(-2, -1))
                yield lambda a=a, o=order: torch.linalg.matrix_norm(a, o)
                yield lambda a=a, o=order: torch.linalg.cond(a, o)
                yield lambda a=a, o=order: torch.linalg.norm(a[..., 0, 0], o)
                yield lambda a=a, o=order: torch.linalg.vector_norm(a, o)
            yield lambda a=a: (torch.linalg.cond(a), torch.linalg.matrix_rank(a))
            yield lambda a=a: (torch.linalg.det(a), a.det(), a.logdet(), a.slogdet())
            yield lambda a=a: (
                torch.linalg.slogdet(a),
                torch.linalg.eigvals(a),
                torch.linalg.eig(a),
            )
            yield lambda a=a: (torch.linalg.eigh(a), torch.linalg.eigvalsh(a))
            yield lambda a=a: (torch.linalg.inv(a), a.inverse(), a.pinverse(), torch.linalg.pinv(a))
            yield lambda a=a: torch.linalg.pinv(a, hermitian=True)
            yield lambda a=a: (torch.linalg.inv_ex(a), torch.linalg.inv_ex(a, check_errors=True))
            yield lambda a=a: (a.cholesky(), torch.linalg.cholesky(a), torch.linalg.cholesky_ex(a))
            yield lambda a=a: torch.linalg.cholesky_ex(a, check_errors=True)
            yield lambda l=lower, b=b: (torch.cholesky_inverse(l), torch.cholesky_solve(b, l))
            yield lambda a=a: (torch.linalg.lu(a), torch.linalg.lu_factor(a), a.lu())
            yield lambda a=a: torch.linalg.lu_factor_ex(a, check_errors=True)
            yield lambda x=lu, p=pivots, b=b: torch.linalg.lu_solve(x, p, b)
            yield lambda x=lu, p=pivots, b=b: (torch.lu_solve(b, x, p), torch.lu_unpack(x, p))
            yield lambda a=a: (torch.linalg.ldl_factor(a), torch.linalg.ldl_factor_ex(a))
            yield lambda a=a: torch.linalg.ldl_factor_ex(a, check_errors=True)
            yield lambda a=a, b=b: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(a), b)
            yield lambda a=a, b=b: (torch.linalg.solve(a, b), torch.linalg.lstsq(a, b))
            yield lambda a=a, b=b: torch.linalg.solve_ex(a, b, check_errors=True)
            yield lambda a=a, b=b: torch.linalg.solve_triangular(a, b, upper=True)
            yield lambda a=a, b=b: torch.triangular_solve(b, a)
            yield lambda a=a: (torch.linalg.matrix_exp(a), torch.linalg.matrix_power(a, 3))
            yield lambda a=a: (torch.linalg.matrix_power(a, -2), torch.linalg.matrix_power(a, 1))
            yield lambda a=a: torch.linalg.multi_dot([a, a, a]) if a.dim() == 2 else None
            yield lambda a=a: (torch.geqrf(a), torch.linalg.householder_product(a, a[..., 0]))
            yield lambda a=a: (torch.trace(a), torch.kron(a, a), torch.outer(a[0], a[1]))
    window = torch.hann_window(8) + 0.1
    signal = torch.rand(2, 32)
    spectrum = torch.stft(signal, 8, window=window, return_complex=True)
    yield lambda: torch.stft(signal, 8, window=window, return_complex=True)
    yield lambda: torch.istft(spectrum, 8, window=window)


def _conversions() -> Iterator[Callable[[], object]]:
    for source in _ANY:
        for shape in ((2, 3), (4,), ()):
            x = torch.ones(shape, dtype=source)
            for target in _ANY:
                yield lambda x=x, d=target: x.to(d)
                yield lambda x=x, d=target: x.to("cpu", d)
                yield lambda x=x, d=target: x.to(torch.ones(1, dtype=d))
                yield lambda x=x, d=target: x.to(d, copy=True)
                yield lambda x=x, d=target: x.type(d)
                yield lambda x=x, d=target: x.type_as(torch.ones(1, dtype=d))
                yield lambda x=x, d=target: torch.ops.aten._to_copy.default(x, dtype=d)
                yield lambda x=x, d=target: torch.ops.aten.to.dtype_layout(
                    x, dtype=d, layout=torch.strided, device=torch.device("cpu")
                )
                yield lambda x=x, d=target: torch.ops.aten.result_type.Tensor(
                    x, torch.ones(1, dtype=d)
                )
            yield lambda x=x: x.to("cpu")
            yield lambda x=x: (
                x.cpu(),
                x.float(),
                x.double(),
                x.half(),
                x.long(),
                x.bool(),
                x.int(),
            )


def _constructors() -> Iterator[Callable[[], object]]:
    for dtype in (*_ANY, None):
        for n in (1, 4):
            yield lambda n=n, d=dtype: torch.zeros(n, 2, dtype=d)
            yield lambda n=n, d=dtype: torch.ones(n, 2, dtype=d)
            yield lambda n=n, d=dtype: torch.full((n, 2), 1.0, dtype=d)
            yield lambda n=n, d=dtype: torch.full((n, 2), 3, dtype=d)
            yield lambda n=n, d=dtype: torch.eye(n, dtype=d)
            yield lambda n=n, d=dtype: torch.eye(n, n + 1, dtype=d)
            yield lambda n=n, d=dtype: torch.arange(n, dtype=d)
            yield lambda n=n, d=dtype: torch.arange(1, n + 1, dtype=d)
            yield lambda n=n, d=dtype: torch.arange(0, n, 0.5, dtype=d)
            yield lambda n=n, d=dtype: torch.linspace(0, 1, n, dtype=d)
            yield lambda n=n, d=dtype: torch.logspace(0, 1, n, dtype=d)
            yield lambda n=n, d=dtype: torch.scalar_tensor(n, dtype=d)
            yield lambda n=n, d=dtype: torch.rand(n, 2, dtype=d)
            yield lambda n=n, d=dtype: torch.randn(n, 2, dtype=d)
            yield lambda n=n, d=dtype: torch.randint(n, (3,), dtype=d)
            yield lambda n=n, d=dtype: torch.randint(1, n + 1, (3,), dtype=d)
            yield lambda n=n, d=dtype: torch.randperm(n, dtype=d)
            yield lambda n=n, d=dtype: torch.tril_indices(n, n, dtype=d)
            yield lambda n=n, d=dtype: torch.triu_indices(n, n, dtype=d)
            yield lambda n=n, d=dtype: torch.hann_window(n, dtype=d)
            yield lambda n=n, d=dtype: torch.hamming_window(n, dtype=d)
            yield lambda n=n, d=dtype: torch.normal(0.0, 1.0, (n,), dtype=d)
    for rate in (torch.rand(3), torch.rand(2, 3, dtype=torch.float64)):
        yield lambda r=rate: (torch.poisson(r), torch.binomial(r, r), torch.bernoulli(r))
        yield lambda r=rate: (torch.normal(r, r), torch.normal(0.0, r), torch.normal(r, 1.0))
        yield lambda r=rate: (torch.multinomial(r, 1), torch._standard_gamma(r))


def _scalars() -> Iterator[Callable[[], object]]:
    for dtype in _ANY:
        for value in (0, 1):
            x = torch.tensor(value, dtype=dtype)
            yield x.item
            yield lambda x=x: torch.ops.aten._local_scalar_dense.default(x)
            yield lambda x=x: torch.ops.aten.is_nonzero.default(x)
            yield lambda x=x: torch.equal(x, x)
            yield lambda x=x: torch.allclose(x, x)
            yield lambda x=x: torch.ops.aten._assert_async.default(x)
            yield lambda x=x: torch.ops.aten._assert_async.msg(x, "message")
            yield lambda x=x: torch.ops.aten._functional_assert_async.msg(x, "message", x)
    for value in (True, 1, 3):
        yield lambda v=value: torch.ops.aten._assert_scalar.default(v, "message")
        yield lambda v=value: torch.ops.aten.sym_constrain_range.default(v, min=0, max=8)
        yield lambda v=value: torch.ops.aten.sym_constrain_range_for_size.default(v, min=0, max=8)
