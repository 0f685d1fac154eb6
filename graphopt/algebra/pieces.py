"""Tensors that an evaluation makes one of another: elements of leaves, products of two, sums of several."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TypeAlias

from graphopt.algebra.choices import Choice, read_by
from graphopt.algebra.fingerprint import Field, Numbers, canonical, contraction, in_field, total
from graphopt.algebra.polynomial import Access, Dims, Factor, Index, along
from graphopt.ir.graph import Value


@dataclass(frozen=True, slots=True)
class Read:
    """Elements of a leaf."""

    factor: Factor


@dataclass(frozen=True, slots=True)
class Product:
    """coefficient · Σ first · second."""

    coefficient: Fraction
    first: "Piece"
    second: "Piece"


@dataclass(frozen=True, slots=True)
class Reduced:
    """coefficient · Σ of one."""

    coefficient: Fraction
    of: "Piece"


@dataclass(frozen=True, slots=True)
class Total:
    """Σ number · tensor, broadcast, and a number."""

    parts: "tuple[tuple[Fraction, Piece], ...]"
    number: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Joined:
    """Tensors one after the other along an index. `parts`: each, and the indices that it has, or is the same
    along, in the place of each of the whole's."""

    index: Index
    parts: "tuple[tuple[Piece, Dims], ...]"


How: TypeAlias = Read | Product | Reduced | Total | Joined


@dataclass(frozen=True, eq=False)
class Piece:
    """A tensor with a dimension for each of its indices. `key` is equal for pieces that are the same but
    for the names of the indices, which the order of `indices` matches."""

    indices: tuple[Index, ...]
    numbers: Numbers = field(repr=False)
    key: bytes = field(repr=False)
    how: How
    fixed: bool  # made of what calls do not change

    @cached_property
    def elements(self) -> int:
        """How many elements it has."""
        count = 1
        for index in self.indices:
            count *= index.size
        return count

    @cached_property
    def choice(self) -> Choice | None:
        """The choice that it is, which only what it multiplies is made of; None for all others."""
        match self.how:
            case Read(Choice() as factor):
                return factor
            case _:
                return None

    @cached_property
    def factors(self) -> tuple[bytes, ...]:
        """The keys of what is multiplied, in one order for all orders of multiplication."""
        match self.how:
            case Product(_, first, second):
                return tuple(sorted((*first.factors, *second.factors)))
            case Reduced(_, of):
                return of.factors
            case _:
                return (self.key,)

    @property
    def operands(self) -> "tuple[Piece, ...]":
        """What it is made of."""
        match self.how:
            case Product(_, first, second):
                return first, second
            case Reduced(_, of):
                return (of,)
            case Total(parts):
                return tuple(piece for _, piece in parts)
            case Joined(_, blocks):
                return tuple(piece for piece, _ in blocks)
            case _:
                return ()

    def everything(self) -> "Iterator[Piece]":
        """The pieces that it takes, itself last; each key once."""
        seen: set[bytes] = set()

        def visit(piece: Piece) -> Iterator[Piece]:
            if piece.key in seen:
                return
            seen.add(piece.key)
            for operand in piece.operands:
                yield from visit(operand)
            yield piece

        yield from visit(self)

    def renamed(self, names: Mapping[Index, Index]) -> "Piece":
        """The same along other indices."""
        if not any(index in names for index in self.indices):
            return self
        known = {old: along(new) for old, new in names.items()}
        return Piece(
            tuple(names.get(i, i) for i in self.indices),
            self.numbers,
            self.key,
            _renamed(self.how, names, known),
            self.fixed,
        )


def _renamed(how: How, names: Mapping[Index, Index], known: Mapping[Index, Access]) -> How:
    match how:
        case Read(factor):
            return Read(factor.with_(known))
        case Product(coefficient, first, second):
            return Product(coefficient, first.renamed(names), second.renamed(names))
        case Reduced(coefficient, of):
            return Reduced(coefficient, of.renamed(names))
        case Total(parts, number):
            return Total(tuple((c, piece.renamed(names)) for c, piece in parts), number)
        case Joined(index, blocks):
            groups = (tuple(tuple(names.get(i, i) for i in one) for one in dims) for _, dims in blocks)
            pieces = (piece.renamed(names) for piece, _ in blocks)
            return Joined(names.get(index, index), tuple(zip(pieces, groups, strict=True)))


def over_leaves(piece: Piece, leaves: Mapping[str, Value]) -> Piece:
    """The same of other leaves, given by the names of its own; keys stay as they are."""
    known: dict[int, Piece] = {}

    def of(one: Piece) -> Piece:
        if id(one) not in known:
            known[id(one)] = replace(one, how=how(one.how))
        return known[id(one)]

    def how(given: How) -> How:
        match given:
            case Read(factor):
                return Read(factor.of(leaves[read_by(factor).name]))
            case Product(coefficient, first, second):
                return Product(coefficient, of(first), of(second))
            case Reduced(coefficient, one):
                return Reduced(coefficient, of(one))
            case Total(parts, number):
                return Total(tuple((c, of(one)) for c, one in parts), number)
            case Joined(index, blocks):
                return Joined(index, tuple((of(one), dims) for one, dims in blocks))

    return of(piece)


class Pieces:
    """Makes pieces, each with its fingerprint."""

    def __init__(self, field_: Field, is_fixed: "frozenset[str]") -> None:
        """`is_fixed`: the names of the leaves that calls do not change."""
        self.field = field_
        self._fixed = is_fixed
        # By the keys of two factors and how their indices meet: what their product is.
        self._products: dict[object, tuple[Numbers, bytes, tuple[int, ...]]] = {}

    def read(self, factor: Factor) -> Piece:
        """Elements of a leaf."""
        order = tuple(sorted(factor.indices))
        numbers = self.field.element(factor, order)
        return self._made(order, numbers, Read(factor), factor.leaf.name in self._fixed)

    def product(self, a: Piece, b: Piece, out: Iterable[Index], by: Fraction = Fraction(1)) -> Piece:
        """by · Σ a · b over the indices that are not in `out`."""
        kept = set(out)
        both = {index: place for place, index in enumerate(dict.fromkeys((*a.indices, *b.indices)))}
        meeting = tuple(both[i] for i in a.indices), tuple(both[i] for i in b.indices)
        place = a.key, b.key, by, *meeting, tuple(i in kept for i in both)
        how, fixed = Product(by, a, b), a.fixed and b.fixed
        if place in self._products:
            numbers, key, at = self._products[place]
            indices = tuple(both)
            return Piece(tuple(indices[i] for i in at), numbers, key, how, fixed)
        order = tuple(i for i in both if i in kept)
        numbers = contraction(a.numbers, a.indices, b.numbers, b.indices, order, self.field)
        piece = self._made(order, self._scaled(numbers, by), how, fixed)
        self._products[place] = piece.numbers, piece.key, tuple(both[i] for i in piece.indices)
        return piece

    def reduced(self, a: Piece, out: Iterable[Index], by: Fraction = Fraction(1)) -> Piece:
        """by · Σ a over the indices that are not in `out`."""
        kept = set(out)
        order = tuple(i for i in a.indices if i in kept)
        if order == a.indices and by == 1:
            return a
        numbers = a.numbers
        for axis in reversed(range(len(a.indices))):
            if a.indices[axis] not in kept:
                numbers = self.field.summed(numbers, axis, a.indices[axis])
        return self._made(order, self._scaled(numbers, by), Reduced(by, a), a.fixed)

    def total(self, parts: Iterable[tuple[Fraction, Piece]], number: Fraction = Fraction(0)) -> Piece:
        """Σ number · tensor, and a number."""
        found = tuple(parts)
        order = tuple(dict.fromkeys(i for _, piece in found for i in piece.indices))
        numbers = total([(c, piece.numbers, piece.indices) for c, piece in found], order, self.field)
        numbers = (numbers + in_field(number, self.field.prime)) % self.field.prime
        return self._made(order, numbers, Total(found, number), all(piece.fixed for _, piece in found))

    def joined(self, index: Index, order: tuple[Index, ...], parts: "Sequence[tuple[Piece, Dims]]") -> Piece:
        """Parts one after the other along one of the indices of an order: a tensor that is equal to others
        made of the same parts, and to no other."""
        digest = hashlib.sha256(repr((order.index(index), [one.size for one in order])).encode())
        for piece, dims in parts:
            places = [
                [(piece.indices.index(i) if i in piece.indices else -1, i.size) for i in one] for one in dims
            ]
            digest.update(repr((piece.key, places)).encode())
        numbers = self.field.drawn(int.from_bytes(digest.digest()[:7], "big"), order)
        fixed = all(piece.fixed for piece, _ in parts)
        return Piece(order, numbers, digest.digest(), Joined(index, tuple(parts)), fixed)

    def _made(self, order: tuple[Index, ...], numbers: Numbers, how: How, fixed: bool) -> Piece:
        key, indices = canonical(numbers, order)
        return Piece(indices, numbers.transpose([order.index(i) for i in indices]), key, how, fixed)

    def _scaled(self, numbers: Numbers, by: Fraction) -> Numbers:
        prime = self.field.prime
        return numbers if by == 1 else numbers * in_field(by, prime) % prime
