"""Redundant views: what shows the same part of the same memory is one value."""

from graphopt.authoring import (
    Claim,
    Draft,
    Geometry,
    Node,
    Substitution,
    Value,
    Views,
)


class RedundantView:
    """transpose(transpose(x))  →  x;  expand to the own shape, slice of the whole  →  x;
    x.t() ... x.transpose(0, 1)  →  one of them

    1. The geometry of a value is the memory it shows, with offset, sizes, strides and dtype; views are
       followed through any chain of operators that read no element.
    2. A node all of whose results have the geometry of earlier values is replaced by these.

    *Refuses*: views given another shape in place; two objects where the caller gets both; where gradients
    are wanted, all but operators that hand their operand back as it is.

    *Claim*: BITWISE.
    """

    name = "redundant-view"
    claim = Claim.BITWISE
    finding = "a view of what is there"

    def run(self, draft: Draft) -> None:
        """Visits the nodes in order; each result joins the first value of its geometry."""
        views, substitution = draft.analysis(Views), draft.substitution()
        named = {value.name: value for value in draft.graph.values}
        first: dict[Geometry | None, Value] = {}
        for node in draft.graph.nodes:
            shown = filter(None, (views.geometry(v) for v in node.results if views.sharing(v)))
            roots = {one.root for one in shown}
            if not roots:
                continue
            for root in roots:
                _note(first, views, named[root])
            if not self._joins(node, draft, views, substitution, first):
                for value in node.results:
                    _note(first, views, value)

    def _joins(
        self,
        node: Node,
        draft: Draft,
        views: Views,
        substitution: Substitution,
        first: dict[Geometry | None, Value],
    ) -> bool:
        shown = [views.geometry(value) for value in node.results]
        found = tuple(first[one] for one in shown if one in first)
        if len(found) != len(node.results):
            return False
        handed_back = tuple(v for r in node.results if (v := views.same_object.get(r.name)) is not None)
        values = handed_back if len(handed_back) == len(found) else found
        refusal = substitution.against_view(node, values)
        if refusal is not None:
            draft.miss(node, refusal)
            return False
        substitution.note(node, values)
        shows = ", ".join(f"%{value.name}" for value in values)
        return draft.replace(node, values, f"shows what {shows} shows")


def _note(first: dict[Geometry | None, Value], views: Views, value: Value) -> None:
    shown = views.geometry(value)
    if shown is not None:
        first.setdefault(shown, value)
