"""Affine folds: what scales, shifts and adds up the channels of a linear map is done by its weight."""

from graphopt.authoring import (
    AffineForms,
    Applied,
    Builder,
    Claim,
    Draft,
    Fold,
    LinearMap,
    Substitution,
    applied_once,
    budget_of,
    nodes_of,
    price,
    widest,
)


class AffineFold:
    """(W x + b) · s + t  →  (W s) x + (b s + t);  W (x · s + t) + b  →  (W s) x + (W t + b);
    V x + W x + x  →  (V + W + 1) x;  for W, b, s, t that calls do not change

    1. A linear map is a matrix product or convolution whose weight depends on the model's state alone. Its
       affine form grows over the nodes around it that act on each channel alone (multiply, add, divide,
       normalize by kept statistics), over sums with other forms of the same input, and, for one number for
       all channels, over views.
    2. The weight and the bias that do the whole form are computed in float64, rounded once, and kept until
       their sources change.

    *Refuses*: where gradients are wanted; operands written in between; what other nodes read; forms whose
    nodes take less time than it costs to hold and watch another weight.

    *Claim*: ROUNDING. The numbers are multiplied in another order.
    """

    name = "affine-fold"
    claim = Claim.ROUNDING
    finding = "can be done by a weight"

    def run(self, draft: Draft) -> None:
        """Visits the linear maps in order; each grows as far as it can."""
        if draft.gradients:
            return
        forms, substitution = draft.analysis(AffineForms), draft.substitution()
        leaves = _leaves(forms, draft)
        budget = budget_of(draft.graph, draft.costs.bytes)
        for name, leaf in leaves.items():
            fold = forms.fold(leaf) if draft.live(forms.maps[name].node) else None
            if fold is None or isinstance(fold.form, LinearMap):
                continue
            if not all(map(draft.live, nodes_of(fold.form))):
                continue  # another fold took some of it: the rest grows in the next round
            size = draft.costs.bytes(widest(fold.form).weight)
            refusal = _against(fold, substitution) or _too_dear(fold, leaf, size, forms, draft)
            refusal = refusal or (None if size <= budget else "what may be kept is used up")
            if refusal is not None:
                draft.miss(fold.root, refusal)
            elif _replaced(fold, leaf, draft):
                budget -= size


def _leaves(forms: AffineForms, draft: Draft) -> dict[str, LinearMap | Applied]:
    """The linear maps by node, with what stands in front of them where that pays for all that read it."""
    found: dict[str, LinearMap | Applied] = {**forms.maps}
    for prelude in forms.preludes():
        nodes = [*nodes_of(prelude.form)]
        seconds = sum(map(draft.costs.seconds, nodes))
        cost = sum(price(draft.costs.bytes(one.weight), 2 + len(nodes)) for one in prelude.maps)
        if seconds > cost:
            found.update((one.node.name, Applied(one, prelude.form)) for one in prelude.maps)
        else:
            draft.miss(nodes[-1], _dear(seconds, cost))
    return found


def _against(fold: Fold, substitution: Substitution) -> str | None:
    """Why a fold would change something else; None where it would not."""
    memory, result = substitution.memory, fold.root.results[0]
    if not widest(fold.form).has_room:
        return "the product of two weights may be too large for its type, or too small"
    if any(substitution.changed(node, fold.root) for node in (*nodes_of(fold.form), *fold.views)):
        return "an operand may be written in between"
    if fold.views and (memory.is_placed(result) or result.name in memory.reshaped):
        return "the caller, or a node, can tell how it lies in its memory"
    return None


def _too_dear(
    fold: Fold, leaf: LinearMap | Applied, size: int, forms: AffineForms, draft: Draft
) -> str | None:
    """Why a fold does not pay; None where it does, or what stands in front has paid for it."""
    if isinstance(leaf, Applied):
        return None
    core = widest(fold.form).node
    nodes = {node.name: node for node in nodes_of(fold.form) if node is not core}
    seconds = sum(map(draft.costs.seconds, nodes.values()))
    cost = price(size, forms.sources(fold.form))
    return None if seconds > cost else _dear(seconds, cost)


def _dear(seconds: float, cost: float) -> str:
    return f"takes {seconds * 1e6:.3g} µs, and to hold other weights for it {cost * 1e6:.3g} µs"


def _replaced(fold: Fold, leaf: LinearMap | Applied, draft: Draft) -> bool:
    build = Builder(draft, like=widest(fold.form).node)
    found = applied_once(fold.form, fold.views, build)
    if found is None:
        draft.miss(fold.root, "its result would lie otherwise in memory")
        return False
    if not draft.has_room(build.nodes):
        draft.miss(fold.root, "the graph would grow too large")
        return False
    value, weights = found
    kept = [one for one in (weights.weight, weights.bias) if one is not None]
    core = widest(fold.form).node
    before = [*nodes_of(leaf.inner)] if isinstance(leaf, Applied) else []  # other maps may read them, too
    gone = [node for node in (*nodes_of(fold.form), *fold.views) if node not in before]
    return draft.replace(
        fold.root,
        (value,),
        f"the weight of {core.name} does it",
        added=build.nodes,
        absorbed=[node for node in gone if node is not fold.root],
        redone=(core, *fold.views),
        kept=kept,
        evidence=f"holds {sum(map(draft.costs.bytes, kept)) / 1e6:.3g} MB",
    )
