"""What a random program's statements can be: expressions with places for operands.

A template is the kinds of its operands, one letter each, the expression, and how many tensors it
gives. Kinds: f floating, i int64, b bool, c complex, n any number, a any tensor; a capital letter
is a tensor that the statement writes to.
"""

from __future__ import annotations

from typing import NamedTuple


class Template(NamedTuple):
    """An expression over operands of the given kinds that gives ``results`` tensors."""

    kinds: str
    text: str
    results: int = 1


def _each(kinds: str, *texts: str, results: int = 1) -> list[Template]:
    return [Template(kinds, text, results) for text in texts]


POINTWISE = [
    *_each("f", "torch.relu({0})", "{0}.sin()", "{0}.exp()", "torch.sigmoid({0})", "F.gelu({0})"),
    *_each("f", "{0}.abs()", "{0}.sqrt()", "-{0}", "{0}.tanh()", "{0}.reciprocal()", "{0} ** 2"),
    *_each("f", "F.softplus({0})", "{0}.clamp(-1, 1)", "{0}.round()", "torch.nan_to_num({0})"),
    *_each("n", "{0} + 1", "{0} + 1.0", "{0} + True", "{0} * 0.0", "{0} * -0.0", "{0} - 0"),
    *_each("n", "{0} * 1", "{0} * 1.0", "{0} / 1", "1 - {0}", "{0} ** 1", "{0} + 0", "{0} * 2"),
    *_each("n", "torch.sub({0}, 1, alpha=2)", "torch.rsub({0}, 1)", "{0} * 2j", "{0}.square()"),
    *_each("a", "{0}.clone()", "{0}.contiguous()", "{0}.to(torch.float64)", "{0}.to({0}.dtype)"),
    *_each("a", "{0}.float()", "{0}.bfloat16()", "{0}.bool()", "{0}.to(torch.int64)"),
    *_each("a", "{0}.to(torch.complex64)", "{0} == {0}", "torch.zeros_like({0})", "~({0} != 0)"),
    *_each("a", "torch.ones_like({0}, dtype=torch.float32)", "torch.full_like({0}, 2)"),
    *_each("c", "{0}.abs()", "{0}.angle()", "torch.view_as_real({0})", "{0}.conj().resolve_conj()"),
    *_each("nn", "{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / {1}", "torch.add({0}, {1})"),
    *_each("nn", "{1} + {0}", "torch.add({0}, {1}, alpha=2)", "torch.mul({0}, {1})"),
    *_each("ff", "torch.maximum({0}, {1})", "torch.atan2({0}, {1})", "{0} < {1}", "{0} % {1}"),
    *_each("ff", "torch.pow({0}, {1})", "torch.lerp({0}, {1}, 0.5)", "torch.hypot({0}, {1})"),
    *_each("aa", "{0} == {1}", "{0} != {1}", "torch.logical_and({0}, {1})"),
    *_each("baa", "torch.where({0}, {1}, {2})"),
    *_each("ba", "torch.where({0}, {1}, 0)", "torch.where({0}, {1}, -0.0)"),
    *_each("ba", "{1}.masked_fill({0}, 2)"),
    *_each("bb", "{0} & {1}", "{0} | {1}", "{0} ^ {1}"),
    *_each("ii", "{0} // ({1} + 1)", "{0} & {1}", "torch.remainder({0}, {1} + 1)"),
    *_each("fff", "torch.addcmul({0}, {1}, {2})", "torch.addcmul({0}, {1}, {2}, value=0.5)"),
]

REDUCTIONS = [
    *_each("n", "{0}.sum()", "{0}.sum(-1)", "{0}.sum(dim=0, keepdim=True)", "{0}.prod()"),
    *_each("f", "{0}.mean()", "{0}.mean(-1, keepdim=True)", "{0}.amax(-1)", "{0}.var(-1)"),
    *_each("f", "{0}.std()", "{0}.norm()", "torch.logsumexp({0}, -1)", "{0}.argmax(-1)"),
    *_each("f", "torch.softmax({0}, -1)", "torch.log_softmax({0}, 0)", "{0}.median()"),
    *_each("f", "torch.softmax({0}, -1, dtype=torch.float64)", "F.layer_norm({0}, {0}.shape[-1:])"),
    *_each("f", "{0}.max(-1)", "{0}.sort(-1)", "torch.topk({0}, 1)", results=2),
    *_each("f", "torch.std_mean({0})", "torch.aminmax({0})", results=2),
    *_each("n", "{0}.cumsum(0)", "{0}.cumprod(-1)", "torch.diff({0})"),
    *_each("a", "{0}.any()", "{0}.all(-1)", "torch.count_nonzero({0})"),
]

PRODUCTS = [
    *_each("ff", "{0} @ {1}", "{0} @ {1}.mT", "{0}.mT @ {1}", "torch.matmul({0}, {1})"),
    *_each("ff", "F.linear({0}, {1})", "torch.outer({0}.flatten(), {1}.flatten())"),
    *_each("ff", "torch.einsum('ij,kj->ik', {0}, {1})", "torch.dot({0}.flatten(), {1}.flatten())"),
    *_each("fff", "torch.addmm({0}, {1}, {2})", "F.linear({0}, {1}, {2})", "{0} @ {1} @ {2}"),
    *_each("fff", "torch.addmm({0}, {1}, {2}, beta=0.5)", "torch.baddbmm({0}, {1}, {2})"),
    *_each("ff", "torch.bmm({0}[None], {1}[None])", "torch.kron({0}, {1})", "torch.cdist({0}, {1})"),
    *_each("f", "F.scaled_dot_product_attention({0}[None], {0}[None], {0}[None])"),
    *_each("f", "{0} @ {0}.mT"),
    *_each("cc", "{0} @ {1}", "{0} @ {1}.mH"),
]

SHAPES = [
    *_each("aa", "torch.cat([{0}, {1}])", "torch.stack([{0}, {1}])", "torch.cat([{0}, {1}], -1)"),
    *_each("a", "torch.cat([{0}, {0}])", "{0}.flip(0)", "{0}.roll(1, 0)", "{0}.repeat(2, 1)"),
    *_each("a", "F.pad({0}, (1, 0))", "torch.tril({0})", "torch.atleast_2d({0})"),
    *_each("a", "{0}.reshape(-1)", "{0}.reshape({0}.shape)", "{0}.mT.reshape(-1)", "{0}.flatten()"),
    *_each("a", "{0}.repeat_interleave(2, 0)", "torch.meshgrid({0}.flatten(), indexing='ij')[0]"),
    *_each("a", "{0} + {0}.shape[0]", "{0} * {0}.dim()", "torch.arange({0}.numel())"),
    *_each("", "torch.ones(2, 3)", "torch.zeros(3)", "torch.arange(3)", "torch.eye(3)"),
    *_each("", "torch.tensor(1.5)", "torch.full((3,), 2.0)", "torch.linspace(0, 1, 3)"),
    *_each("f", "{0}.new_zeros(3)", "{0}.new_tensor([1.0, 2.0, 3.0])"),
    *_each("f", "torch.vmap(torch.sin)({0})"),
]

VIEWS = [
    *_each("a", "{0}.view(-1)", "{0}.transpose(0, -1)", "{0}.mT", "{0}[0]", "{0}[1:]", "{0}[..., 0]"),
    *_each("a", "{0}[:, ::2]", "{0}.unsqueeze(0)", "{0}.unsqueeze(-1)", "{0}.squeeze()"),
    *_each("a", "{0}.expand(2, *{0}.shape)", "{0}[None].expand(3, *{0}.shape)", "{0}.diagonal()"),
    *_each("a", "{0}.detach()", "{0}.select(0, 0)", "{0}.narrow(0, 0, 1)", "{0}.view_as({0})"),
    *_each("a", "{0}.as_strided((2,), (1,))", "{0}.as_strided((2, 2), (1, 1), 1)", "{0}[:]"),
    *_each("a", "{0}.permute(1, 0)", "{0}.unfold(0, 2, 1)", "{0}.movedim(0, -1)", "{0}.T"),
    *_each("a", "{0}.reshape(1, -1)", "torch.atleast_1d({0})", "{0}.view({0}.dtype)", "{0}.data"),
    *_each(
        "a",
        "{0}.chunk(2)",
        "{0}.split([1, 1])",
        "{0}.tensor_split(2)",
        "{0}.chunk(2, -1)",
        results=2,
    ),
    *_each("a", "{0}.unbind()", "{0}.hsplit(2)", results=2),
    *_each("c", "{0}.conj()", "{0}.real", "{0}.imag", "{0}.conj().imag", "{0}.mH"),
    *_each("f", "{0}.real", "{0}.view(torch.int32)", "F.dropout({0}, 0.5, False)"),
]

WRITES = [
    *_each("N", "{0}.add_(1)", "{0}.mul_(2)", "{0}.sub_(1)", "{0}.neg_()", "{0}.mul_(-0.0)"),
    *_each("A", "{0}.zero_()", "{0}.fill_(2)", "{0}.copy_({0}.flip(0))", "{0}.t_()"),
    *_each("F", "{0}.relu_()", "{0}.sigmoid_()", "{0}.clamp_(-1, 1)", "F.relu({0}, inplace=True)"),
    *_each("F", "{0}.exp_()", "{0}.div_(2)", "{0}.squeeze_()", "{0}.unsqueeze_(0)"),
    *_each("Nn", "{0}.add_({1})", "{0}.mul_({1})", "{0}.sub_({1})", "{0}.copy_({1})"),
    *_each("Nn", "{0}.add_({1}, alpha=2)"),
    *_each("Fff", "{0}.addmm_({1}, {2})", "{0}.addcmul_({1}, {2})", "{0}.lerp_({1}, {2})"),
    *_each("Ff", "{0}.add_({1}.sum())", "{0}.copy_({1}.exp())"),
    *_each("Ab", "{0}.masked_fill_({1}, 1)", "{0}.logical_and_({1})"),
    *_each("B", "{0}.logical_not_()"),
    *_each("I", "{0}.remainder_(2)", "{0}.bitwise_not_()"),
]
"""Used as expressions: the result is the written tensor itself, under another name."""

ITEM_WRITES = [
    *_each("A", "{0}[0] = 1", "{0}[..., 1:] = 3", "{0}[:, 0] = 0", "{0}[-1] = -0.0", results=0),
    *_each("A", "{0}[{0} == {0}] = 1", "{0}[..., ::2] = {0}[..., :1]", results=0),
    *_each("Aa", "{0}[0] = {1}", "{0}[...] = {1}", "{0}[1:] = {1}", results=0),
    *_each("Ab", "{0}[{1}] = 0", results=0),
    *_each("Ai", "{0}[{1}] = 1", results=0),
    *_each("Nn", "{0} += {1}", "{0} *= {1}", results=0),
    *_each("N", "{0} += 1", "{0} *= 2", "{0} -= 1", results=0),
    *_each("FfI", "torch.max({1}, -1, out=({0}, {2}))", results=0),
    *_each("Nnn", "torch.add({1}, {2}, out={0})", "torch.mul({1}, {2}, out={0})", results=0),
    *_each("Fff", "torch.matmul({1}, {2}, out={0})", results=0),
    *_each("Ff", "torch.exp({1}, out={0})", results=0),
]

INDEXING = [
    *_each("ai", "{0}[{1}]", "{0}.index_select(0, {1}.flatten())", "{0}.take({1})"),
    *_each("ai", "torch.gather({0}, 0, {1})", "F.embedding({1}, {0})", "{0}.index_select(-1, {1})"),
    *_each("a", "{0}[[0, 1]]", "{0}[torch.tensor([1, 0])]", "{0}[..., [0]]"),
    *_each("ab", "torch.masked_select({0}, {1})"),
    *_each("fi", "{0}.scatter(0, {1}, 1.0)", "{0}.index_add(0, {1}, {0})"),
    *_each("if", "F.one_hot({0}, 4) * {1}[..., :1]"),
    *_each("Fi", "{0}.scatter_(0, {1}, 2.0)", "{0}.index_fill_(0, {1}, 3.0)"),
    *_each("Fif", "{0}.index_add_(0, {1}, {2})", "{0}.scatter_add_(0, {1}, {2})"),
    *_each("Fif", "{0}.index_put_(({1},), {2})", "{0}.index_put_(({1},), {2}, accumulate=True)"),
    *_each("Fif", "{0}.index_copy_(0, {1}, {2})"),
]

RANDOM = [
    *_each("f", "torch.rand_like({0})", "torch.randn_like({0})", "F.dropout({0}, 0.5)"),
    *_each("f", "torch.bernoulli({0}.sigmoid().nan_to_num())", "F.dropout({0}, 0.5, True)"),
    *_each("f", "F.rrelu({0}, training=True)", "F.alpha_dropout({0}, 0.5, True)"),
    *_each("", "torch.rand(3)", "torch.randn(2, 3)", "torch.randint(0, 3, (3,))"),
    *_each("", "torch.randperm(3)", "torch.normal(0.0, 1.0, (3,))"),
    *_each("F", "{0}.uniform_()", "{0}.normal_()", "F.dropout({0}, 0.5, True, True)"),
    *_each("F", "{0}.bernoulli_(0.5)"),
]

RAISING = [
    *_each("f", "torch.linalg.cholesky({0} @ {0}.mT)", "torch.linalg.inv({0})"),
    *_each("f", "torch.linalg.solve({0} @ {0}.mT, {0})", "torch.linalg.det({0} @ {0}.mT)"),
    *_each("ii", "{0} // {1}", "{0} % {1}"),
    *_each("ai", "{0}[{1}]", "{0}.index_select(0, {1}.flatten())", "F.embedding({1}, {0})"),
    *_each("f", "torch.multinomial({0}, 1)", "torch.bernoulli({0})"),
    *_each("fi", "F.nll_loss({0}, {1})", "F.cross_entropy({0}, {1})"),
]
"""May raise, depending on values; kept in a program where they do."""

CONTROL = [
    *_each("f", "torch.cond({0}.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), ({0},))"),
    *_each("ff", "torch.cond({0}.sum() > 0, lambda x: x + 1, lambda x: x * 2, ({1},))"),
    *_each("fn", "torch.cond(({0} > 0).any(), lambda x: x + x, lambda x: x * x, ({1},))"),
]

STATEFUL = [
    *_each("fFF", "F.batch_norm({0}, {1}, {2}, training=True)"),
    *_each("fff", "F.batch_norm({0}, {1}, {2}, training=False)"),
]

GROUPS: tuple[tuple[int, list[Template]], ...] = (
    (22, POINTWISE),
    (7, REDUCTIONS),
    (7, PRODUCTS),
    (7, SHAPES),
    (16, VIEWS),
    (13, WRITES),
    (10, ITEM_WRITES),
    (8, INDEXING),
    (6, RANDOM),
    (3, RAISING),
    (2, CONTROL),
    (2, STATEFUL),
)
"""How often each group is drawn, and the group."""

REGIONS = (
    "with torch.no_grad():",
    "with torch.enable_grad():",
    "with torch.set_grad_enabled(False):",
    "with torch.autocast('cpu', dtype=torch.bfloat16):",
    "with torch.autocast('cpu', enabled=False):",
)

ALIASES = (
    "{0}",
    "{0}[:]",
    "{0}[1:]",
    "{0}.t()",
    "{0}.detach()",
    "{0}.view(-1)",
    "{0}[..., :1]",
    "{0}.expand(2, *{0}.shape)",
    "{0}.clone().t().contiguous().t()",
    "{0}.mT.contiguous().mT",
    "torch.cat([{0}.flatten(), {0}.flatten()])[::2]",
)
"""How an argument can be made of an earlier one: most share its memory, some have odd strides."""

SHAPE_CHOICES = ((2, 3), (3, 3), (3,), (2, 3), (3, 3), (1, 3), (2, 1), (), (1,), (0, 3), (2, 3, 3))
