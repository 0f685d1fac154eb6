"""What a rewrite says, as a person would write it: A·B·x = A·(B·x).

`·` is the product of matrices, `∘` that of elements, `ᵀ` exchanges the last two dimensions; `sum` is over all
dimensions, or over those that it names by their sizes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from graphopt.algebra.norms import is_norm
from graphopt.algebra.pieces import Joined, Piece, Product, Read, Reduced, Total
from graphopt.algebra.polynomial import Access, Factor, Index, Polynomial
from graphopt.algebra.windows import is_windowed
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.literal import Lit
from graphopt.ir.operands import shape_of

LONGEST = 400
"""Characters of a statement; a longer one tells nobody anything."""

_SUM, _PRODUCT, _ATOM = range(3)  # what binds, from the loosest


@dataclass(frozen=True, slots=True)
class _Written:
    """A text, what its dimensions run along, and how tightly it holds together."""

    text: str
    order: tuple[Index, ...]
    binds: int = _ATOM
    back: "Callable[[], _Written] | None" = None
    """What it is with its two dimensions exchanged, where that reads better than with a ᵀ."""

    def inside(self, least: int) -> str:
        """The text, in parentheses where it holds together less than that."""
        return self.text if self.binds >= least else f"({self.text})"

    def turned(self) -> "_Written":
        """With the last two dimensions exchanged."""
        if self.back is not None:
            return self.back()
        *outer, row, column = self.order
        text = self.text[:-1] if self.text.endswith("ᵀ") and self.binds == _ATOM else f"{self.inside(_ATOM)}ᵀ"
        return _Written(text, (*outer, column, row))


def statement(
    root: Node, nodes: Iterable[Node], p: Polynomial, piece: Piece, leaves: Mapping[str, str]
) -> str:
    """`before = after`, for a node and the piece that evaluates its polynomial; "" where that is too long to
    read. `nodes`: it and those that it is seen through to, in order; `leaves`: what a leaf is called."""
    known: dict[str, _Written] = {}
    for node in nodes:
        made = _node(node, known, leaves)
        known[node.results[0].name] = made if len(made.text) <= LONGEST else _TOO_LONG
        if node is root:
            break
    after = _as(_piece(piece, lambda value: leaves[value.name]), p.free).text
    after = f"sqrt({after})" if is_norm(root) else after
    text = f"{known[root.results[0].name].text} = {after}"
    return text if len(text) <= LONGEST else ""


_LARGEST_DENOMINATOR = 1000  # of a fraction that is written as one
_TOO_LONG = _Written("…" * LONGEST, ())
_PRODUCTS = frozenset({"matmul", "mm", "bmm", "mv", "chain_matmul", "linalg_multi_dot"})
_SIGNS = {"mul": " ∘ ", "multiply": " ∘ ", "add": " + ", "sub": " - ", "subtract": " - ", "div": " / "}
_TURNED = frozenset({"t", "mT", "adjoint", "numpy_T"})
_AS_THEY_ARE = frozenset(
    {"view", "reshape", "unsqueeze", "squeeze", "expand", "contiguous", "flatten", "clone"}
)


def _node(node: Node, known: Mapping[str, _Written], leaves: Mapping[str, str]) -> _Written:
    """A node as the user wrote it, of operands that are known."""

    def operand(arg: Arg) -> _Written:
        match arg:
            case Value(name):
                return known.get(name) or _Written(leaves.get(name, name), ())
            case Items(_, items):
                return _Written(f"[{', '.join(operand(item).text for item in items)}]", ())
            case Lit(float() as number):
                return _Written(f"{number:g}", ())
            case Lit(value):
                return _Written(str(value), ())
            case _:
                return _Written("…", ())

    name = node.op.split(".")[1] if "." in node.op else node.op
    args = [operand(arg) for arg in node.args]
    values = [one for arg, one in zip(node.args, args, strict=True) if isinstance(arg, Value)]
    if name in _PRODUCTS and len(values) == len(args) == 2 and not node.kwargs:
        return _Written(f"{args[0].inside(_PRODUCT)}·{args[1].inside(_ATOM)}", (), _PRODUCT)
    if name in _SIGNS and len(args) == 2 and not node.kwargs:
        binds = _SUM if name in ("add", "sub", "subtract") else _PRODUCT
        least = _PRODUCT if name == "add" else binds + 1
        return _Written(f"{args[0].inside(binds)}{_SIGNS[name]}{args[1].inside(least)}", (), binds)
    if name in _TURNED or (name == "transpose" and len(shape_of(node.results[0])) == 2):
        return _Written(f"{args[0].inside(_ATOM)}ᵀ", ())
    if name in _AS_THEY_ARE:
        return args[0]
    if name == "select":
        places = ":, " * int(args[1].text) if not args[1].text.startswith("-") else "..., "
        return _Written(f"{args[0].inside(_ATOM)}[{places}{args[2].text}]", ())
    named = [f"{key}={operand(arg).text}" for key, arg in node.kwargs]
    return _Written(
        f"{'tr' if name == 'trace' else name}({', '.join([*(one.text for one in args), *named])})", ()
    )


def _as(written: _Written, free: Sequence[Index]) -> _Written:
    """Turned, where its two dimensions are those that are wanted, the other way round."""
    wanted = tuple(index for index in free if index in written.order)
    return written.turned() if len(wanted) == 2 and written.order == wanted[::-1] else written


def _piece(piece: Piece, name: Callable[[Value], str]) -> _Written:
    match piece.how:
        case Read(factor):
            return _read(factor, name)
        case Product(by, first, second):
            found = _multiplied(_piece(first, name), _piece(second, name), {*piece.indices})
            return _sum([(by, found)])
        case Reduced(by, of):
            return _sum([(by, _summed(_piece(of, name), {*piece.indices}))])
        case Total(parts, number):
            found_ = [(c, _piece(one, name)) for c, one in parts]
            return _sum([*found_, (number, _Written("1", ()))] if number else found_)
        case Joined(_, blocks):
            parts_ = (_as(_piece(one, name), [i for dim in dims for i in dim]).text for one, dims in blocks)
            return _Written(f"cat({', '.join(parts_)})", piece.indices)


def _read(factor: Factor, name: Callable[[Value], str]) -> _Written:
    order: list[Index] = []
    places = []
    for access, size in zip(factor.accesses, shape_of(factor.leaf), strict=True):
        order += [index for index, _ in sorted(access.steps, key=lambda pair: -pair[1])]
        places.append(_place(access, size))
    if is_windowed(factor):
        return _Written(f"windows({name(factor.leaf)})", tuple(dict.fromkeys(order)))
    where = "" if all(place == ":" for place in places) else f"[{', '.join(places)}]"
    text = f"{name(factor.leaf)}{where}"
    if len(set(order)) < len(order):
        text, order = f"diag({text})", [*dict.fromkeys(order)]
    return _Written(text, tuple(order))


def _place(access: Access, size: int) -> str:
    if not access.steps:
        return str(access.start) if size > 1 else ":"
    step = min(step for _, step in access.steps)
    if step < 0:
        return f"{access.start}:{access.lowest - 1 if access.lowest else ''}:{step}"
    end = access.start + sum((index.size - 1) * step for index, step in access.steps) + 1
    if (access.start, end, step) == (0, size, 1):
        return ":"
    return f"{access.start}:{end}" + (f":{step}" if step != 1 else "")


def _multiplied(a: _Written, b: _Written, kept: Iterable[Index]) -> _Written:
    """Σ a · b over the indices that are not kept."""
    stay = {*kept}
    a, b = (_summed(one, {*stay, *other.order}) for one, other in ((a, b), (b, a)))
    batch = tuple(i for i in a.order if i in b.order and i in stay)
    inner = tuple(i for i in a.order if i in b.order and i not in stay)
    rows, columns = ([i for i in one.order if i not in other.order] for one, other in ((a, b), (b, a)))
    is_dot = not rows and not columns
    if len(inner) == 1 and len(rows) <= 1 and len(columns) <= 1 and not (is_dot and batch):
        if columns and not rows and not batch:
            a, b, rows, columns = b, a, columns, rows
        return _matrices(a, b, inner[0], (*batch, *rows, *columns), bool(rows), bool(columns))
    if not inner and not batch and len(rows) == len(columns) == 1:
        return _outer(a, b)
    if len(a.order) == len(b.order) == 2 and a.order == b.order[::-1]:
        b = b.turned()
    sign = "·" if not a.order or not b.order else " ∘ "
    order = max((a.order, b.order), key=len)
    order = (*order, *(i for i in (*a.order, *b.order) if i not in order))
    return _summed(_Written(f"{a.inside(_PRODUCT)}{sign}{b.inside(_ATOM)}", order, _PRODUCT), stay)


def _matrices(
    a: _Written, b: _Written, inner: Index, order: tuple[Index, ...], has_rows: bool, has_columns: bool
) -> _Written:
    """A product of matrices, or of vectors."""
    if has_rows and a.order[-1] != inner and len(a.order) > 1:
        a = a.turned()
    if has_columns and b.order[-1] == inner and len(b.order) > 1:
        b = b.turned()
    left = a.inside(_PRODUCT) if has_rows else f"{a.inside(_ATOM)}ᵀ"
    back = (lambda: _matrices(b, a, inner, order[::-1], True, True)) if len(order) == 2 else None
    return _Written(f"{left}·{b.inside(_ATOM)}", order, _PRODUCT, back if has_rows and has_columns else None)


def _outer(a: _Written, b: _Written) -> _Written:
    """A column times a row."""
    text = f"{a.inside(_PRODUCT)}·{b.inside(_ATOM)}ᵀ"
    return _Written(text, (*a.order, *b.order), _PRODUCT, lambda: _outer(b, a))


def _summed(one: _Written, kept: Iterable[Index]) -> _Written:
    stay = {*kept}
    order = tuple(index for index in one.order if index in stay)
    if order == one.order:
        return one
    over = "" if not order else ", over " + " × ".join(str(i.size) for i in one.order if i not in stay)
    return _Written(f"sum({one.text}{over})", order)


def _sum(parts: Iterable[tuple[Fraction, _Written]]) -> _Written:
    """Σ number · what is written."""
    found = [(c, one) for c, one in parts if c]
    if not found:
        return _Written("0", ())
    order: tuple[Index, ...] = max((one.order for _, one in found), key=len)
    texts: list[str] = []
    for number, one in found:
        one, size = _as(one, order), _number(abs(number))
        scaled = one.inside(_PRODUCT) if size == "1" else f"{size}·{one.inside(_PRODUCT)}"
        text = size if one.text == "1" else scaled
        sign = "-" if number < 0 else "+"
        texts.append(f" {sign} {text}" if texts else (f"-{text}" if number < 0 else text))
    if len(found) == 1 and found[0][0] == 1:
        return found[0][1]
    back = (lambda: _sum([(c, _as(one, order[::-1])) for c, one in found])) if len(order) == 2 else None
    return _Written("".join(texts), order, _PRODUCT if len(found) == 1 else _SUM, back)


def _number(number: Fraction) -> str:
    return str(number) if number.denominator <= _LARGEST_DENOMINATOR else f"{float(number):.6g}"
