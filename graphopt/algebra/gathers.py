"""What each operator that gathers computes, as a polynomial of its operands."""

from graphopt.algebra.choices import ALONG, GATHER, INDEX, SELECT, chosen, gathered
from graphopt.algebra.operators import Operands, Reader
from graphopt.algebra.polynomial import NoPolynomial, Polynomial
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.graph import Value
from graphopt.ir.literal import Lit


def _index_select(o: Operands) -> Polynomial:
    p, index = o.tensor("self"), o.tensor("index")
    if not p.dims or len(index.dims) != 1:
        raise NoPolynomial
    dim = o.integers("dim")[0] % len(p.dims)
    return chosen(p, [dim], [index], dim, SELECT)


def _embedding(o: Operands) -> Polynomial:
    o.only("weight", "indices", "padding_idx", "scale_grad_by_freq", "sparse")
    return chosen(o.tensor("weight"), [0], [o.tensor("indices")], 0, SELECT)


def _index(o: Operands) -> Polynomial:
    given = o.given.get("indices")
    items = given.items if isinstance(given, Items) else ()
    dims = [dim for dim, item in enumerate(items) if isinstance(item, Value)]
    if not dims:
        raise NoPolynomial
    together = dims == list(range(dims[0], dims[-1] + 1))
    indices = [o.known(item) for item in items if isinstance(item, Value)]
    return chosen(o.tensor("self"), dims, indices, dims[0] if together else 0, INDEX)


def _gather(o: Operands) -> Polynomial:
    p, index = o.tensor("self"), o.tensor("index")
    if not p.dims or len(p.dims) != len(index.dims):
        raise NoPolynomial
    return gathered(p, o.integers("dim")[0] % len(p.dims), index, GATHER)


def _take_along_dim(o: Operands) -> Polynomial:
    p, index = o.tensor("self"), o.tensor("indices")
    if o.given.get("dim", Lit(None)) == Lit(None) or len(p.dims) != len(index.dims):
        raise NoPolynomial
    return gathered(p, o.integers("dim")[0] % len(p.dims), index, ALONG)


GATHERS: dict[str, Reader] = {
    SELECT: _index_select,
    "aten.embedding.default": _embedding,
    INDEX: _index,
    GATHER: _gather,
    ALONG: _take_along_dim,
}
"""By the whole name; they raise for an index that is out of range."""
