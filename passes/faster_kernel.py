"""Faster kernels: products of matrices by the library that takes less time for them on this machine."""

from graphopt.authoring import Builder, Claim, Dependence, Draft, by_onednn

WORTH, LEAST = 0.8, 3e-6
"""What another kernel may take of the time at most, and the seconds that it has to save."""


class FasterKernel:
    """linear(x, W, b), x @ W, a 1 × 1 convolution  →  the same by oneDNN

    1. torch multiplies float32 matrices on a CPU by MKL; oneDNN's kernels are at hand, too.
    2. Which is faster for a shape is measured: `graphopt calibrate`. Uncalibrated, the default knows CPUs of
       the maker that it was measured on.

    Compilers and files get torch's own operators again.

    *Refuses*: where gradients are wanted, for oneDNN's operators give none; other dtypes and devices;
    symbolic sizes; matrices with gaps; images in batches.

    *Claim*: ROUNDING. The same sums in another order.
    """

    name = "faster-kernel"
    claim = Claim.ROUNDING
    finding = "is faster by another library"

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order."""
        if draft.gradients:
            return
        dependence = draft.analysis(Dependence)
        for node in draft.graph.nodes:
            build = Builder(draft, like=node)
            value = by_onednn(node, build)
            if value is None or dependence.is_fixed(node.results[0]):
                continue  # what calls do not change is computed once
            before, after = draft.costs.seconds(node), sum(map(draft.costs.seconds, build.nodes))
            if after <= min(WORTH * before, before - LEAST):
                why = f"about {before * 1e6:.3g} µs → {after * 1e6:.3g} µs by oneDNN"
                draft.replace(node, (value,), why, added=build.nodes)
