"""Random numbers from outside torch: the streams of numpy and of Python's random, and what forward draws.

A number that forward draws there cannot be in a graph, but two uses of it can be kept. Where forward does
no more than compare it (`if random.random() < p`), each call draws it anew, from the same stream, before
the graph runs, and goes to the original where a comparison falls otherwise. And where forward seeds the
stream with a constant, all that it draws from then on is constant.
"""

import functools
import operator
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.capture.callers import called_by_model, user_line
from graphopt.ir.branch import OtherBranch

_REMEDY = (
    "draw it from torch, draw it outside of forward and pass it, or turn off in the configuration what draws"
)


@dataclass(frozen=True)
class Stream:
    """One random stream of the process."""

    name: str
    state: Callable[[], Any]
    put_back: Callable[[Any], None]
    seed: Callable[[int], None]
    module: Any  # whose functions draw from it
    generator: Any  # the object that they are methods of

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The module's functions that draw, by name."""
        return {
            name: function
            for name, function in vars(self.module).items()
            if getattr(function, "__self__", None) is self.generator
        }


_SEED_NUMPY = np.random.seed  # which is watched while forward is traced


def _seed_numpy(number: int) -> None:
    _SEED_NUMPY(number % 2**32)


STREAMS = {
    stream.name: stream
    for stream in (
        Stream(
            "numpy.random",
            functools.partial(np.random.get_state, legacy=False),
            np.random.set_state,
            _seed_numpy,
            np.random,
            np.random.mtrand._rand,
        ),
        Stream("random", random.getstate, random.setstate, random.seed, random, random._inst),
    )
}


@dataclass(frozen=True, slots=True)
class Draw:
    """One call of a stream's function with constants."""

    stream: str
    function: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What forward asked of one drawn number: `draw operator other`, and the answer at capture."""

    draw: int
    operator: str
    other: int | float
    answer: bool
    where: str


@dataclass(frozen=True)
class Draws:
    """What forward does to the streams: draws in order, comparisons of them, and `seeded` the streams that
    it leaves in a state of its own making."""

    made: tuple[Draw, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    seeded: tuple[tuple[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.made or self.seeded)

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that forward moves."""
        names = {draw.stream for draw in self.made} | {name for name, _ in self.seeded}
        return tuple(stream for name, stream in STREAMS.items() if name in names)

    def repeat(self) -> None:
        """Draws what forward draws. Raises OtherBranch where it would go another way than at capture."""
        values = [_drawn(draw) for draw in self.made]
        for asked in self.comparisons:
            if getattr(operator, asked.operator)(values[asked.draw], asked.other) is not asked.answer:
                raise OtherBranch(f"the branch at {asked.where} was {asked.answer} at capture")

    def settle(self) -> None:
        """Leaves the seeded streams as forward does."""
        for name, state in self.seeded:
            STREAMS[name].put_back(state)


def _drawn(draw: Draw) -> Any:
    return getattr(STREAMS[draw.stream].module, draw.function)(*draw.args, **dict(draw.kwargs))


class DrawnNumbers:
    """Watches the draws of one run of forward. `refuse` is told of those that cannot be kept."""

    def __init__(self, refuse: Callable[[str, str], None], seed: int) -> None:
        self._refuse = refuse
        self._seed = seed
        self._before: dict[str, Any] = {}
        self._made: list[Draw] = []
        self._comparisons: list[Comparison] = []
        self._seeded: set[str] = set()
        self._drawing = False
        self.found = Draws()

    def begin(self) -> None:
        """Every run finds the streams alike, however often forward is traced."""
        self._made, self._comparisons, self._seeded = [], [], set()
        self._before = {name: stream.state() for name, stream in STREAMS.items()}
        for stream in STREAMS.values():
            stream.seed(self._seed)

    def end(self) -> None:
        """Puts the streams back. What was drawn unseen is refused."""
        after = {name: stream.state() for name, stream in STREAMS.items()}
        found = Draws(
            tuple(self._made),
            tuple(self._comparisons),
            tuple((name, after[name]) for name in STREAMS if name in self._seeded),
        )
        try:
            for stream in STREAMS.values():
                if stream.name not in self._seeded:
                    self._check(stream)
        finally:
            self.abandon()
        self.found = found

    def _check(self, stream: Stream) -> None:
        """Refuses a stream that is not where the draws that were seen leave it."""
        now = stream.state()
        self._drawing = True
        try:
            stream.seed(self._seed)
            for draw in self._made:
                if draw.stream == stream.name:
                    _drawn(draw)
            as_seen = _same(stream.state(), now)
        finally:
            self._drawing = False
            stream.put_back(now)
        if not as_seen:
            self._refuse(
                f"forward draws random numbers from {stream.name} in a way that is not seen", _REMEDY
            )

    def abandon(self) -> None:
        """Puts the streams back, where forward ended midway."""
        for name, state in self._before.items():
            STREAMS[name].put_back(state)
        self._before = {}

    def replacements(self) -> Iterator[tuple[Any, str, Any]]:
        """What to put in the place of the functions that draw: owner, name and the watched function."""
        for stream in STREAMS.values():
            for name, function in stream.functions.items():
                if name != "seed":
                    yield stream.module, name, self._drawing_from(stream, name, function)
            yield stream.module, "seed", self._seeding(stream, stream.module.seed)
        yield np.random, "default_rng", self._making(np.random.default_rng)

    def _seeding(self, stream: Stream, seed: Callable[..., None]) -> Callable[..., None]:
        def seeded(*args: Any, **kwargs: Any) -> None:
            if called_by_model() and stream.name not in self._seeded:
                given = (*args, *kwargs.values())
                if len(given) != 1 or type(given[0]) is not int:
                    self._refuse(f"forward calls {stream.name}.seed with anything but a number", _REMEDY)
                self._check(stream)
                self._seeded.add(stream.name)
            seed(*args, **kwargs)

        return seeded

    def _making(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **kwargs: Any) -> Any:
            if called_by_model() and not (args or kwargs):
                self._refuse("forward draws random numbers from a generator that it seeds by chance", _REMEDY)
            return make(*args, **kwargs)

        return made

    def _drawing_from(self, stream: Stream, name: str, draw: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*args: Any, **kwargs: Any) -> Any:
            if self._drawing or stream.name in self._seeded or not called_by_model():
                return draw(*args, **kwargs)
            what = f"forward draws a random number from outside torch ({stream.name}.{name})"
            if not all(type(arg) in (int, float) for arg in (*args, *kwargs.values())):
                self._refuse(what, _REMEDY)
            self._drawing = True  # some of them call one another
            try:
                value = draw(*args, **kwargs)
            finally:
                self._drawing = False
            if type(value) not in (int, float):
                self._refuse(f"{what} that is no single number", _REMEDY)
            self._made.append(Draw(stream.name, name, args, tuple(kwargs.items())))
            return _standing_in(value, self._compared(len(self._made) - 1, value), what, self._refuse)

        return drawn

    def _compared(self, number: int, value: float) -> Callable[[str, Any], bool]:
        def compared(operation: str, other: Any) -> bool:
            answer: bool = getattr(operator, operation)(value, other)
            self._comparisons.append(Comparison(number, operation, other, answer, user_line()))
            return answer

        return compared


def _same(one: Any, other: Any) -> bool:
    """Whether two states of a stream are equal: numpy's are dictionaries that hold arrays."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else bool(one == other)


_COMPARED = ("lt", "le", "gt", "ge", "eq", "ne")


def _standing_in(
    value: float, compared: Callable[[str, Any], bool], what: str, refuse: Callable[[str, str], None]
) -> Any:
    """An object in the place of a drawn number that can be compared with numbers and nothing else."""

    def refused(*args: object, **kwargs: object) -> Any:
        refuse(f"{what} and does more than compare it with a number", _REMEDY)

    def comparing(operation: str) -> Callable[[Any, Any], bool]:
        def answer(self: object, other: Any) -> bool:
            return compared(operation, other) if type(other) in (int, float) else refused()

        return answer

    made: dict[str, Any] = {f"__{operation}__": comparing(operation) for operation in _COMPARED}
    names = {*dir(type(value)), "__array__", "__index__", "__complex__", "__iter__", "__len__", "__getitem__"}
    kept = {"__new__", "__init__", "__class__", "__init_subclass__", "__subclasshook__", "__getattribute__"}
    for name in (names - kept - made.keys()) | {"__getattr__"}:
        made[name] = refused
    made["__slots__"] = ()
    made["__class__"] = property(lambda self: type(value))
    return type("Drawn", (), made)()
