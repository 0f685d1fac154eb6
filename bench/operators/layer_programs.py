"""Calls of the operators that layers make, in the dtypes and modes of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

_FLOATS = (torch.float32, torch.float64, torch.bfloat16)


def programs() -> Iterator[Callable[[], object]]:
    """Programs to run under the recorder; some raise."""
    torch.manual_seed(0)
    for dtype in _FLOATS:
        yield from _layers(dtype)
        yield from _attention(dtype)


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
            for mode in ("sum", "mean", "max"):
                yield lambda w=weight, e=extra, m=mode: F.embedding_bag(index, w, mode=m, **e)
        for reduction in ("none", "mean", "sum"):
            ones = torch.ones_like(rows)
            for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.kl_div):
                yield lambda f=loss, r=reduction: f(rows, ones, reduction=r)
            yield lambda r=reduction: F.binary_cross_entropy(rows, ones, reduction=r)
            yield lambda r=reduction: F.binary_cross_entropy_with_logits(rows, ones, reduction=r)
            yield lambda r=reduction: F.nll_loss(rows[:, 0], index[:, 0], reduction=r)
            yield lambda r=reduction: F.cross_entropy(rows[:, 0], index[:, 0], reduction=r)
            yield lambda r=reduction: F.cross_entropy(rows, ones, reduction=r)
        weight_g, weight_v = torch.rand(5, 1, dtype=dtype), torch.rand(5, 8, dtype=dtype)
        yield lambda: torch.ops.aten._weight_norm.default(weight_v, weight_g, 0)
        yield lambda: torch.ops.aten._weight_norm_interface.default(weight_v, weight_g, 0)
        for mode in ("constant", "reflect", "replicate", "circular"):
            yield lambda m=mode: F.pad(image, (1, 1, 1, 1), mode=m)
            yield lambda m=mode: F.pad(rows, (1, 2), mode=m)
            yield lambda m=mode: F.pad(rows, (0, 0), mode=m)
        grid = torch.rand(size, 3, 3, 2, dtype=dtype) * 2 - 1
        for padding in ("zeros", "border", "reflection"):
            for interpolation in ("bilinear", "nearest", "bicubic"):
                yield lambda p=padding, m=interpolation: F.grid_sample(image, grid, m, p)
        yield lambda: F.affine_grid(torch.rand(size, 2, 3, dtype=dtype), [size, 4, 5, 5])
        yield lambda: F.interpolate(image, scale_factor=0.5, mode="area")
        yield lambda: F.interpolate(image, size=(3, 3), mode="nearest-exact")
        yield lambda: F.fold(F.unfold(image, 2), (6, 6), 2)
        yield lambda: (F.normalize(rows), F.cosine_similarity(rows, rows), torch.cdist(rows, rows))
        yield lambda: (F.logsigmoid(rows), F.softplus(rows), F.hardtanh(rows), F.softmin(rows))
        yield lambda: F.gumbel_softmax(rows)
        yield lambda: F.cross_entropy(rows[:, 0], index[:, 0], label_smoothing=0.1)
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
