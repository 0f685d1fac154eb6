"""Polynomials up to the names of their leaves: those of equal layers are read and searched once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from graphopt.algebra.choices import read_by
from graphopt.algebra.cutting import is_whole_in_blocks
from graphopt.algebra.equality import Equal, equalities
from graphopt.algebra.families import united
from graphopt.algebra.joining import joined
from graphopt.algebra.polynomial import (
    MAX_TERMS,
    Access,
    Factor,
    Index,
    NoPolynomial,
    Polynomial,
    Term,
    leaf,
)
from graphopt.algebra.reading import read_all
from graphopt.ir.graph import Node, Value, replace_values
from graphopt.ir.regions import likeness
from graphopt.ir.types import TensorType

MOST_TERMS, MOST_FACTORS = 4, 4
"""Of a small polynomial."""


@dataclass(frozen=True, eq=False)
class Form:
    """A polynomial over leaves that are called 0, 1 and so on, in the order in which they are met. There is
    one object for each."""

    polynomial: Polynomial

    @cached_property
    def united(self) -> Polynomial:
        """With indices joined that move together, and one term for each family of terms."""
        return united(joined(self.polynomial))

    @cached_property
    def is_small(self) -> bool:
        """Whether it may be seen through where several nodes read it."""
        terms = self.polynomial.terms
        return len(terms) <= MOST_TERMS and all(len(term.factors) <= MOST_FACTORS for term in terms)

    @cached_property
    def is_long(self) -> bool:
        """Whether there are orders to choose from."""
        counts = (sum(not isinstance(f, Equal) for f in term.factors) for term in self.united.terms)
        return any(count > 2 for count in counts)

    @cached_property
    def is_scaled(self) -> bool:
        """Whether it is elements of one leaf, each multiplied by the same number, and nothing is summed."""
        match self.polynomial.terms:
            case (Term(_, (Factor() as factor,)) as term,):
                return not isinstance(factor, Equal) and not self.polynomial.bound(term)
            case _:
                return False

    @property
    def is_large(self) -> bool:
        """Whether it has more terms than can be looked at."""
        return len(self.polynomial.terms) > MAX_TERMS

    @cached_property
    def is_part(self) -> bool:
        """Whether it is elements of one leaf, each as it is."""
        match self.polynomial.terms:
            case (Term(1, (Factor() as factor,)),):
                return not isinstance(factor, Equal)
            case _:
                return False

    @cached_property
    def is_whole_in_blocks(self) -> bool:
        """Whether no zeros and ones are left within its blocks."""
        return is_whole_in_blocks(self.polynomial)

    @cached_property
    def equalities(self) -> frozenset[int]:
        """The leaves that are zeros and ones."""
        return frozenset(map(int, equalities(self.polynomial)))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a value is: a form, and the values that are its leaves."""

    form: Form
    leaves: tuple[Value, ...]

    @property
    def polynomial(self) -> Polynomial:
        """The polynomial of these leaves."""
        return over(self.form.polynomial, self.leaves)

    @property
    def united(self) -> Polynomial:
        """The same with one term for each family of terms."""
        return over(self.form.united, self.leaves)


@dataclass(frozen=True)
class Together:
    """Several readings, with one number for each of their leaves. `key`s are equal where they are the same
    but for the names of the leaves."""

    key: object
    readings: tuple[Reading, ...]
    leaves: tuple[Value, ...]

    @classmethod
    def of(cls, readings: Iterable[Reading]) -> "Together":
        """Numbers the leaves in the order in which they are met."""
        pool: dict[str, tuple[int, Value]] = {}
        rows, given = [], tuple(readings)
        for one in given:
            rows.append((one.form, *(pool.setdefault(v.name, (len(pool), v))[0] for v in one.leaves)))
        return cls(tuple(rows), given, tuple(value for _, value in pool.values()))

    def polynomials(self, of: Callable[[Form], Polynomial]) -> tuple[Polynomial, ...]:
        """Those of the readings, over leaves that are called by their numbers."""
        new = {value.name: Value(str(i), value.type) for i, value in enumerate(self.leaves)}
        return tuple(over(of(one.form), [new[value.name] for value in one.leaves]) for one in self.readings)


def over(p: Polynomial, leaves: Sequence[Value]) -> Polynomial:
    """A form's polynomial over other leaves."""
    terms = []
    for term in p.terms:
        factors = [factor.of(leaves[int(read_by(factor).name)]) for factor in term.factors]
        terms.append(Term(term.coefficient, tuple(factors)))
    return Polynomial(p.dims, tuple(terms))


_Forms: TypeAlias = tuple[tuple[Form, tuple[int, ...]], ...] | None


class Readings:
    """Reads nodes, those that are the same but for what their operands are called once: what a node computes
    depends on its operator, its literals, the types, and the polynomials of its operands. What depends on
    anything else is read elsewhere, and `made` a reading of."""

    def __init__(self) -> None:
        self._forms: dict[Polynomial, Form] = {}
        self._leaves: dict[TensorType, Form] = {}
        self._as_they_are: dict[int, tuple[Value, Reading | None]] = {}  # by the value's id
        self._numbers: dict[object, int] = {}  # by likeness
        self._number_of: dict[int, tuple[Node, int]] = {}  # by the node's id
        # By the number, and by how the operands are read.
        self._forms_of: dict[object, _Forms] = {}
        self._is_read: dict[int, bool] = {}  # by the number
        # By the ids of the node and of what its operands are read as, which it holds.
        self._read: dict[object, tuple[object, tuple[Reading, ...] | None]] = {}

    def leaf(self, value: Value) -> Reading | None:
        """A tensor as it is, always the same; None for what is none of static size."""
        found = self._as_they_are.get(id(value))
        if found is None:
            found = self._as_they_are[id(value)] = value, self._leaf(value)
        return found[1]

    def _leaf(self, value: Value) -> Reading | None:
        kind = value.type
        if not isinstance(kind, TensorType) or not kind.is_static:
            return None
        if kind not in self._leaves:
            self._leaves[kind] = self.made(leaf(Value("0", kind), map(int, kind.shape))).form
        return Reading(self._leaves[kind], (value,))

    def made(self, p: Polynomial) -> Reading:
        """A polynomial as a form of its leaves."""
        naming = _Naming()
        named = naming.polynomial(p)
        return Reading(self._forms.setdefault(named, Form(named)), naming.met)

    def is_readable(self, node: Node) -> bool:
        """Whether a node's results are polynomials of its operands as they are."""
        number = self._number(node)
        if number not in self._is_read:
            self._is_read[number] = self.of(node, tuple(map(self.leaf, node.operands))) is not None
        return self._is_read[number]

    def of(self, node: Node, given: Sequence[Reading | None]) -> tuple[Reading, ...] | None:
        """What a node's results are, where its operands are as `given`, in order; None where they are no
        polynomials. For the very same operands, it is the very same."""
        place = id(node), *map(id, given)
        last = self._read.get(place)
        if last is None:
            known = {value.name: one for value, one in zip(node.operands, given, strict=True)}
            last = self._read[place] = (node, given), self._results(node, known)
        return last[1]

    def _results(self, node: Node, known: Mapping[str, Reading | None]) -> tuple[Reading, ...] | None:
        if not node.results or node.regions:
            return None
        operands = {value.name: value for value in node.operands}
        numbers: dict[str, int] = {}
        leaves: list[Value] = []
        place: list[object] = [self._number(node)]
        for one in known.values():
            place.append(one and one.form)
            for value in () if one is None else one.leaves:
                if value.name not in numbers:
                    numbers[value.name] = len(leaves)
                    leaves.append(value)
                place.append(numbers[value.name])
        key = tuple(place)
        if key not in self._forms_of:
            self._forms_of[key] = self._new(node, operands, known)
        found = self._forms_of[key]
        if found is None:
            return None
        leaves += (*operands.values(), *node.results)
        return tuple(Reading(form, tuple([leaves[number] for number in places])) for form, places in found)

    def _number(self, node: Node) -> int:
        """One for all nodes that are alike."""
        found = self._number_of.get(id(node))
        if found is None:
            number = self._numbers.setdefault(likeness(node), len(self._numbers))
            found = self._number_of[id(node)] = node, number
        return found[1]

    def _new(self, given: Node, operands: Mapping[str, Value], read: Mapping[str, Reading | None]) -> _Forms:
        """The form of each result, and of all values there are which are its leaves."""
        new = {v.name: Value(f"operand {i}", v.type) for i, v in enumerate(operands.values())}
        node = _called(given, new)
        readings = {name: one for name, one in read.items() if one is not None}
        together = Together.of(readings.values())
        every = together.polynomials(lambda form: form.polynomial)
        polynomials = {new[name].name: p for name, p in zip(readings, every, strict=True)}

        def known(value: Value) -> Polynomial:
            if value.name not in polynomials:
                raise NoPolynomial
            return polynomials[value.name].apart()  # all forms have the same indices

        try:
            found = [*map(self.made, read_all(node, known))]
        except NoPolynomial:
            return None
        others = dict.fromkeys(value.name for value in (*node.operands, *node.results))
        numbers = [*map(str, range(len(together.leaves))), *others]
        return tuple((one.form, tuple(numbers.index(leaf.name) for leaf in one.leaves)) for one in found)


def _called(node: Node, new: dict[str, Value]) -> Node:
    """A node with other names for its operands and results."""
    return Node(
        "node",
        node.op,
        tuple(replace_values(arg, new) for arg in node.args),
        tuple((name, replace_values(arg, new)) for name, arg in node.kwargs),
        tuple(Value(f"result {i}", value.type) for i, value in enumerate(node.results)),
        node.many,
    )


class _Naming:
    """Numbers leaves and indices in the order in which they are met."""

    def __init__(self) -> None:
        self._leaves: dict[str, tuple[Value, Value]] = {}
        self._indices: dict[Index, Index] = {}

    @property
    def met(self) -> tuple[Value, ...]:
        """The leaves, in order."""
        return tuple(old for old, _ in self._leaves.values())

    def polynomial(self, p: Polynomial) -> Polynomial:
        dims = tuple(tuple(map(self._index, dim)) for dim in p.dims)
        return Polynomial(dims, tuple(map(self._term, p.terms)))

    def _term(self, term: Term) -> Term:
        return Term(term.coefficient, tuple(map(self._factor, term.factors)))

    def _factor(self, factor: Factor) -> Factor:
        old = read_by(factor)
        if old.name not in self._leaves:
            self._leaves[old.name] = old, Value(str(len(self._leaves)), old.type)
        accesses = tuple(map(self._access, factor.accesses))
        return factor.at(accesses).of(self._leaves[old.name][1])

    def _access(self, access: Access) -> Access:
        # The widest steps first: which index was made first says nothing.
        steps = access.steps
        if len(steps) == 1:
            return Access(access.start, ((self._index(steps[0][0]), steps[0][1]),))
        steps = tuple(sorted(steps, key=lambda pair: (-pair[1], pair[0].size)))
        return Access(access.start, tuple(sorted((self._index(index), step) for index, step in steps)))

    def _index(self, index: Index) -> Index:
        # Below zero: no other index is called so.
        found = self._indices.get(index)
        if found is None:
            found = self._indices[index] = Index(-1 - len(self._indices), index.size)
        return found
