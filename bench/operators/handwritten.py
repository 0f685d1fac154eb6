"""Calls of operators common in models that torch's own operator samples do not reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

_FLOATS = (torch.float32, torch.float64, torch.bfloat16)
_ANY = (*_FLOATS, torch.int64, torch.bool, torch.complex64)


def programs() -> Iterator[Callable[[], object]]:
    """Programs to run under the recorder; some raise."""
    for dtype in _FLOATS:
        yield from _layers(dtype)
        yield from _attention(dtype)
    for dtype in _ANY:
        for shape in ((2, 3, 4), (4, 6), (5,), (1, 1), (2, 3, 4, 4)):
            yield from _shapes(dtype, shape)
    yield from _conversions()
    yield from _constructors()
    yield from _scalars()


def _layers(dtype: torch.dtype) -> Iterator[Callable[[], object]]:
    for size in (2, 5):
        image = torch.rand(size, 4, 6, 6, dtype=dtype)
        rows = torch.rand(size, 3, 8, dtype=dtype)
        for train in (True, False):
            for affine in (True, False):
                for track in (True, False):
                    for make, x in (
                        (nn.BatchNorm2d, image),
                        (nn.BatchNorm1d, image.flatten(2)),
                        (nn.InstanceNorm2d, image),
                    ):
                        norm = make(4, affine=affine, track_running_stats=track, dtype=dtype)
                        yield lambda m=norm.train(train), x=x: m(x)
            for dropout in (F.dropout, F.alpha_dropout, F.dropout1d, F.feature_alpha_dropout):
                for p in (0.0, 0.5, 1.0):
                    for inplace in (True, False):
                        yield lambda d=dropout, p=p, i=inplace, t=train: d(
                            rows.clone(), p, t, inplace=i
                        )
            yield lambda t=train: torch.native_dropout(rows, 0.5, t)
            yield lambda t=train: F.rrelu(rows, training=t)
            for make_rnn in (nn.LSTM, nn.GRU, nn.RNN):
                for layers, both, p, first in ((1, False, 0.0, False), (2, True, 0.3, True)):
                    rnn = make_rnn(
                        8, 5, layers, dropout=p, bidirectional=both, batch_first=first, dtype=dtype
                    )
                    yield lambda m=rnn.train(train): m(rows)
                    packed = nn.utils.rnn.pack_padded_sequence
                    yield lambda m=rnn.train(train): m(
                        packed(rows, [3] * len(rows), batch_first=True)
                    )
            for heads in (1, 2):
                attention = nn.MultiheadAttention(8, heads, batch_first=True, dtype=dtype)
                yield lambda m=attention.train(train): m(rows, rows, rows)
                layer = nn.TransformerEncoderLayer(8, heads, 16, batch_first=True, dtype=dtype)
                yield lambda m=layer.train(train): m(rows)
        for cell in (nn.LSTMCell, nn.GRUCell, nn.RNNCell):
            yield lambda m=cell(8, 5, dtype=dtype): m(rows[:, 0])
        for module, x in (
            (nn.LayerNorm(8, dtype=dtype), rows),
            (nn.RMSNorm(8, dtype=dtype), rows),
            (nn.GroupNorm(2, 4, dtype=dtype), image),
            (nn.Conv2d(4, 6, 3, dtype=dtype), image),
            (nn.Conv2d(4, 4, 3, padding="same", groups=4, dtype=dtype), image),
            (nn.ConvTranspose2d(4, 6, 3, dtype=dtype), image),
            (nn.Conv1d(3, 5, 3, dtype=dtype), rows),
            (nn.Linear(8, 5, bias=False, dtype=dtype), rows),
            (nn.Bilinear(8, 8, 3, dtype=dtype), None),
            (nn.MaxPool2d(2), image),
            (nn.AvgPool2d(2), image),
            (nn.AdaptiveAvgPool2d(1), image),
            (nn.AdaptiveAvgPool2d(6), image),
            (nn.AdaptiveMaxPool2d(2), image),
            (nn.Upsample(scale_factor=2), image),
            (nn.Upsample(size=(6, 6), mode="bilinear"), image),
            (nn.Upsample(size=(9, 9), mode="bicubic"), image),
            (nn.PixelShuffle(2), image),
            (nn.ChannelShuffle(2), image),
            (nn.ZeroPad2d(1), image),
            (nn.ReflectionPad2d(1), image),
            (nn.Unfold(2), image),
            (nn.Softmax(-1), rows),
            (nn.GELU("tanh"), rows),
            (nn.GLU(-1), rows),
        ):
            if x is None:
                yield lambda m=module: m(rows, rows)
            else:
                yield lambda m=module, x=x: m(x)
        for inplace in (True, False):
            for activation in (F.relu, F.silu, F.hardswish, F.leaky_relu, F.elu, F.relu6, F.mish):
                yield lambda a=activation, i=inplace: a(rows.clone(), inplace=i)
        index = torch.randint(0, 7, (size, 4))
        for extra in ({}, {"padding_idx": 0}, {"max_norm": 0.1}, {"scale_grad_by_freq": True}):
            weight = torch.rand(7, 8, dtype=dtype)
            yield lambda w=weight, e=extra: F.embedding(index, w, **e)
            yield lambda w=weight, e=extra: F.embedding_bag(index, w, **e)
        yield lambda: F.cross_entropy(rows[:, 0], index[:, 0], label_smoothing=0.1)
        yield lambda: F.nll_loss(rows[:, 0], index[:, 0])
        yield lambda: F.mse_loss(rows, rows + 1)
        yield lambda: F.smooth_l1_loss(rows, rows + 1)
        yield lambda: torch.einsum("bij,bkj->bik", rows, rows)
        yield lambda: torch.einsum("bij->bji", rows)
        yield lambda: torch.einsum("bii->bi", rows[:, :3, :3])


def _attention(dtype: torch.dtype) -> Iterator[Callable[[], object]]:
    for length in (3, 7):
        q, k, v = (torch.rand(2, 4, length, 8, dtype=dtype) for _ in range(3))
        attend = F.scaled_dot_product_attention
        mask = torch.rand(length, length) > 0.5
        yield lambda q=q, k=k, v=v: attend(q, k, v)
        yield lambda q=q, k=k, v=v: attend(q, k, v, is_causal=True)
        yield lambda q=q, k=k, v=v: attend(q, k, v, dropout_p=0.4)
        yield lambda q=q, k=k, v=v, m=mask: attend(q, k, v, attn_mask=m)
        yield lambda q=q, k=k, v=v, m=mask: attend(q, k, v, attn_mask=m.to(q.dtype), scale=0.5)
        yield lambda q=q, k=k, v=v: attend(q, k[:, :2], v[:, :2], enable_gqa=True)
        yield lambda q=q, m=mask: q.masked_fill(m, float("-inf")).softmax(-1)
        yield lambda q=q, m=mask: q.masked_fill(~m, torch.tensor(-1.0, dtype=q.dtype))
        yield lambda m=mask: (m.tril(), m.triu(1), ~m, m & m.t(), m | m, m.any(-1), m.all())
        yield lambda m=mask: m.cumsum(-1, dtype=torch.int64)
        yield lambda q=q: torch.where(q > 0.5, q, 0.0)
        yield lambda q=q: torch.where(q > 0.5, q, torch.zeros_like(q))


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
    yield lambda: x.gather(-1, torch.zeros(shape, dtype=torch.int64))
    yield lambda: x.clone().index_put_((torch.tensor([0]),), x[:1])
    yield lambda: torch.index_put(x, (torch.tensor([0]),), x[:1])
    yield lambda: torch.ops.aten.slice_scatter.default(x, x[:1], 0, 0, 1)
    yield lambda: torch.ops.aten.select_scatter.default(x, x[0], 0, 0)
    for name in ("add", "sub", "mul", "div", "eq", "ne", "lt", "le", "gt", "ge", "pow", "bitwise_and"):
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
            yield lambda x=x: (x.cpu(), x.float(), x.double(), x.half(), x.long(), x.bool(), x.int())


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
