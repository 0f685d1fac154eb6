"""What operators that only rearrange elements make of a polynomial.

Each is run on a tensor without memory that counts its elements: where its result starts and how it strides
says which element stands where, whatever the operator is called.
"""

from collections.abc import Callable, Sequence

import torch

from graphopt.algebra.polynomial import Access, Index, NoPolynomial, Polynomial, new_index


def rearranged(p: Polynomial, run: Callable[[torch.Tensor], torch.Tensor]) -> Polynomial:
    """The result of `run`, which shows elements of its operand. Raises NoPolynomial where it copies them, or
    negates them, or they lie in a way that indices cannot say."""
    return parts_of(p, lambda operand: (run(operand),))[0]


def parts_of(p: Polynomial, run: Callable[[torch.Tensor], Sequence[torch.Tensor]]) -> tuple[Polynomial, ...]:
    """The results of `run`, each as `rearranged` has it."""
    operand = torch.empty(p.shape, device="meta")
    found = []
    for result in run(operand):
        if result.is_neg() or result.is_conj():
            raise NoPolynomial
        if result.untyped_storage()._cdata != operand.untyped_storage()._cdata:
            raise NoPolynomial
        if result.dtype != operand.dtype:
            raise NoPolynomial
        found.append(shown(p, int(result.storage_offset()), tuple(result.shape), result.stride()))
    return tuple(found)


def shown(p: Polynomial, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Polynomial:
    """The elements that lie at offset + Σ stride · index, counted through a polynomial in row-major order.
    Raises NoPolynomial where it cannot be said so."""
    atoms, weights = p.free, list[int]()
    weight = 1
    for index in reversed(atoms):
        weights.insert(0, weight)
        weight *= index.size
    starts = _digits(offset, atoms, weights)
    steps: list[dict[Index, int]] = [{} for _ in atoms]
    room = [index.size - 1 - start for index, start in zip(atoms, starts, strict=True)]
    # The widest strides first: what is left of the room says whether a narrower one fits.
    parts_of: dict[int, tuple[Index, ...]] = {}
    for number in sorted(range(len(shape)), key=lambda i: -strides[i]):
        parts = _placed(shape[number], strides[number], atoms, weights, room, steps)
        parts_of[number] = parts
    dims = [parts_of[number] for number in range(len(shape))]
    known = {
        index: Access(start, tuple(sorted(by.items())))
        for index, start, by in zip(atoms, starts, steps, strict=True)
    }
    return p.with_(known, tuple(dims))


def _placed(
    size: int,
    stride: int,
    atoms: Sequence[Index],
    weights: Sequence[int],
    room: list[int],
    steps: list[dict[Index, int]],
) -> tuple[Index, ...]:
    """The indices of one dimension; notes how they move through the atoms."""
    if size == 1:
        return ()
    if stride == 0:
        return (new_index(size),)
    digits = _digits(stride, atoms, weights)
    inner = size
    if any(digit * (size - 1) > free for digit, free in zip(digits, room, strict=True)):
        # It runs through one atom to its end, and on through slower ones.
        inner = min(atom.size // digit for atom, digit in zip(atoms, digits, strict=True) if digit)
        short = any(digit * (inner - 1) > free for digit, free in zip(digits, room, strict=True))
        if inner < 2 or size % inner or short:
            raise NoPolynomial
    index = new_index(inner)
    for place, digit in enumerate(digits):
        if digit:
            steps[place][index] = digit
            room[place] -= digit * (inner - 1)
    return (*_placed(size // inner, stride * inner, atoms, weights, room, steps), index)


def _digits(number: int, atoms: Sequence[Index], weights: Sequence[int]) -> list[int]:
    """How many steps along each atom a number of elements is."""
    found = []
    for weight in weights:
        digit, number = divmod(number, weight)
        found.append(digit)
    if number or any(not 0 <= d < atom.size for d, atom in zip(found, atoms, strict=True)):
        raise NoPolynomial  # it leaves the tensor
    return found
