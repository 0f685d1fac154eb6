"""Sums over windows, and products under them, as nodes."""

from collections.abc import Collection

from graphopt.algebra.kernels import Kernel
from graphopt.algebra.laying import Laid, Laying, size_of
from graphopt.algebra.polynomial import Factor, Index
from graphopt.algebra.polynomial import along as access_of
from graphopt.algebra.showing import Lemma, along, summed_by_parts, summed_by_windows
from graphopt.algebra.windows import Schedule
from graphopt.ir.graph import Value
from graphopt.ir.operands import shape_of


def partly_summed(
    lay: Laying, factor: Factor, leaf: Value, plan: Schedule, kept: Collection[Index]
) -> tuple[Factor, list[Lemma]]:
    """A factor's elements, summed as planned: elements of what is left of its leaf, in the place of which
    `leaf` stands; and what is to be proven of how that is made."""
    prices = lay.prices_of(factor.leaf)
    value, dims = leaf, 0
    lemmas = list[Lemma]()
    axes = list[Index | int]()  # an index, or a dimension of the leaf
    for dim, (access, later) in enumerate(zip(factor.accesses, plan.after, strict=True)):
        if later is not None:
            axes.append(dim)
            dims += 1
            continue
        value, indices = along(lay.op, value, dims, access)
        dims += len(indices)
        axes += indices
    gone = [i for i, axis in enumerate(axes) if isinstance(axis, Index) and axis not in kept]
    if gone:
        value = lay.op("aten.sum.dim_IntList", value, gone)
        axes = [axis for i, axis in enumerate(axes) if i not in gone]
    for stage in plan.stages:
        at = axes.index(stage.dim)
        parts = stage.sums.parts() if prices.is_by_parts(stage.sums, stage.rows) else None
        source, before = value, len(lay.build.nodes)
        if parts is None:
            value = summed_by_windows(lay.op, value, at, stage.sums)
        else:
            value = summed_by_parts(lay.op, value, at, parts)
            lemmas.append(Lemma(source, at, stage.sums, tuple(lay.build.nodes[before:])))
    accesses = (access_of(axis) if isinstance(axis, Index) else plan.after[axis] for axis in axes)
    return Factor(value, tuple(access for access in accesses if access is not None)), lemmas


def by_kernel(lay: Laying, kernel: Kernel, leaf: Value, weight: Laid, bias: Value | None = None) -> Laid:
    """Products under windows of a kernel's leaf, in the place of which `leaf` stands, as a convolution."""
    value, dims, order = leaf, 0, list[Index]()
    for access, spatial in kernel.dims:
        if spatial is None:
            value, indices = along(lay.op, value, dims, access)
            order += indices
            dims += len(indices)
            continue
        value = spatial.shown(lay.op, value, dims)
        order.append(spatial.position)
        dims += 1
    positions = [spatial.position for spatial in kernel.spatial]
    channels = [*kernel.groups, *kernel.channels]
    x = lay.permuted(value, order, [*kernel.batch, *channels, *positions])
    pixels = shape_of(x)[len(kernel.batch) + len(channels) :]
    x = lay.row_major(lay.reshaped(x, [size_of(kernel.batch), size_of(channels), *pixels]))
    taps = [[spatial.tap] if spatial.tap is not None else [] for spatial in kernel.spatial]
    w = lay.row_major(lay.grouped(weight, [*kernel.groups, *kernel.made], kernel.channels, *taps))
    made = lay.op(
        f"aten.conv{len(kernel.spatial)}d.default",
        x,
        w,
        bias,
        [spatial.stride for spatial in kernel.spatial],
        [spatial.pad for spatial in kernel.spatial],
        [spatial.apart for spatial in kernel.spatial],
        size_of(kernel.groups),
    )
    found = (*kernel.batch, *kernel.groups, *kernel.made, *positions)
    return Laid(lay.reshaped(made, [index.size for index in found]), found)
