"""From text to graphs."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch

from graphopt.errors import InvalidGraph
from graphopt.ir.graph import (
    Arg,
    Argument,
    Constant,
    Graph,
    Input,
    Kept,
    Mapping,
    Node,
    Origin,
    Sequence,
    Slice,
    Source,
    State,
    Value,
)
from graphopt.ir.literal import Lit
from graphopt.ir.text.dtypes import DTYPES
from graphopt.ir.text.expressions import parse_expression
from graphopt.ir.types import Dim, ListType, NoneType, SymType, TensorType, Type, contiguous_strides

_CPU = torch.device("cpu")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<value>%\w+)
    | (?P<number>-?(?:\d[\d.]*(?:e[-+]?\d+)?|inf\b|nan\b))
    | (?P<expr><[^<>]*>)
    | (?P<name>[A-Za-z_][\w.]*)
    | (?P<symbol>[{}()\[\],:=#;])
    )""",
    re.VERBOSE,
)


def parse_graph(text: str) -> Graph:
    """The graph of a text. Raises InvalidGraph, naming the place, where the text is none."""
    parser = _Parser(text)
    graph = parser.graph()
    if parser.kind != "end":
        parser.fail("the end")
    return graph


class _Parser:
    """Recursive descent over tokens; `kind` and `token` are the current one."""

    def __init__(self, text: str) -> None:
        self._tokens = self._split(text)
        self._ahead: list[tuple[str, str, int]] = []
        self.kind, self.token, self._line = next(self._tokens)
        self._values: dict[str, Value] = {}
        self._kept: list[str] = []

    def _split(self, text: str) -> Iterator[tuple[str, str, int]]:
        position, line = 0, 1
        while True:
            found = _TOKEN.match(text, position)
            if found is None:
                rest = text[position:].strip()
                line += text[position:].count("\n") if not rest else 0
                if rest:
                    raise InvalidGraph(f"no token at {rest[:30]!r}", where=f"line {line} of the text")
                yield "end", "", line
                return
            line += found[0].count("\n")
            position = found.end()
            yield found.lastgroup or "", found[found.lastgroup or 0], line

    def fail(self, expected: str) -> NoReturn:
        """Raises InvalidGraph."""
        raise InvalidGraph(
            f"expected {expected}, found {self.token!r}", where=f"line {self._line} of the text"
        )

    def _next(self) -> str:
        token = self.token
        self.kind, self.token, self._line = next(self._tokens)
        return token

    def _take(self, token: str) -> None:
        if self.token != token or self.kind == "string":
            self.fail(repr(token))
        self._next()

    def _at(self, token: str) -> bool:
        return self.token == token and self.kind != "string"

    def _kind(self, kind: str) -> str:
        if self.kind != kind:
            self.fail(f"a {kind}")
        return self._next()

    def _string(self) -> str:
        value: str = json.loads(self._kind("string"))
        return value

    def _integer(self) -> int:
        try:
            return int(self._kind("number"))
        except ValueError:
            self.fail("an integer")

    def _list(self, end: str, item: Callable[[], Any]) -> list[Any]:
        found = []
        while not self._at(end):
            found.append(item())
            if not self._at(end):
                self._take(",")
        self._take(end)
        return found

    def graph(self) -> Graph:
        """`graph { ... }`; a sub-graph has values of its own."""
        outer, self._values, self._kept = (self._values, self._kept), {}, []
        self._take("graph")
        self._take("{")
        inputs: list[Input] = []
        nodes: list[Node] = []
        while not self._at("return") and not self._at("yield"):
            line = self._definition()
            inputs.append(line) if isinstance(line, Input) else nodes.append(line)
        bare = self._next() == "yield"
        outputs = self._list("}", self._arg)
        kept = tuple(self._kept)
        self._values, self._kept = outer
        return Graph(tuple(inputs), tuple(nodes), tuple(outputs), bare, kept)

    def _definition(self) -> Input | Node:
        if self.kind == "value":
            value = self._defined()
            self._take("=")
            if self.token in ("argument", "param", "buffer", "attribute", "closure", "constant", "kept"):
                return Input(value, self._source())
            return self._operation(value.name, (value,), many=False)
        name = self._kind("name")
        self._take(":")
        self._take("(")
        results = tuple(self._list(")", self._defined))
        self._take("=")
        return self._operation(name, results, many=True)

    def _defined(self) -> Value:
        name = self._kind("value")[1:]
        self._take(":")
        value = Value(name, self._type())
        self._values[name] = value
        if self._at("kept"):
            self._next()
            self._kept.append(name)
        return value

    def _source(self) -> Source:
        kind = self._next()
        if kind == "argument":
            return Argument(self._integer())
        if kind == "kept":
            return Kept(self._integer())
        if kind == "constant":
            return Constant(self._string())
        return State(kind, self._string())

    def _operation(self, name: str, results: tuple[Value, ...], many: bool) -> Node:
        op = self._kind("name")
        self._take("(")
        args: list[Arg] = []
        kwargs: list[tuple[str, Arg]] = []
        while not self._at(")"):
            arg = self._arg()
            if isinstance(arg, _Keyword):
                kwargs.append((arg.name, self._arg()))
            else:
                args.append(arg)
            if not self._at(")"):
                self._take(",")
        self._take(")")
        origins: list[Origin] = []
        while self._at("#") or (origins and self._at(";")):
            self._next()
            file = self._string()
            self._take(":")
            line, text = self._integer(), self._string()
            self._take("in")
            origins.append(Origin(file, line, text, self._string()))
        return Node(name, op, tuple(args), tuple(kwargs), results, many, tuple(origins))

    def _arg(self) -> Any:
        if self.kind == "value":
            name = self._next()[1:]
            if name not in self._values:
                raise InvalidGraph(
                    f"%{name} is used before it is defined", where=f"line {self._line} of the text"
                )
            return self._values[name]
        if self._at("["):
            self._next()
            return Sequence("list", tuple(self._list("]", self._arg)))
        if self._at("("):
            self._next()
            return Sequence("tuple", tuple(self._list(")", self._arg)))
        if self._at("graph"):
            return self.graph()
        if self.kind == "string":
            return Lit(self._string())
        if self.kind == "number":
            return Lit(_number(self._next()))
        return self._named()

    def _named(self) -> Any:
        name = self._kind("name")
        if name in ("None", "True", "False"):
            return Lit({"None": None, "True": True, "False": False}[name])
        if name in ("inf", "nan"):
            return Lit(float(name))
        if self._at("="):
            self._next()
            return _Keyword(name)
        if self._at("("):
            return self._call(name)
        found = getattr(torch, name.removeprefix("torch."), None)
        if name.startswith("torch.") and isinstance(found, torch.dtype | torch.layout | torch.memory_format):
            return Lit(found)
        self.fail("an operand")

    def _call(self, name: str) -> Any:
        self._take("(")
        if name == "device":
            device = torch.device(self._string())
            self._take(")")
            return Lit(device)
        if name == "mapping":
            return Mapping(tuple(self._list(")", self._pair)))
        items = self._list(")", self._arg)
        if name == "slice" and len(items) == 3:
            return Slice(*items)
        if name == "complex" and len(items) == 2:
            return Lit(complex(*(item.value for item in items)))
        self.fail("device, mapping, slice or complex")

    def _pair(self) -> tuple[str, Arg]:
        key = self._string()
        self._take(":")
        return key, self._arg()

    def _type(self) -> Type:
        if self._at("("):
            self._next()
            return ListType(tuple(self._list(")", self._type)))
        name = self._kind("name")
        if name == "none":
            return NoneType()
        if name in ("int", "float", "bool"):
            return SymType(name, parse_expression(self._next()[1:-1]) if self.kind == "expr" else None)
        if name not in DTYPES:
            self.fail("a type")
        self._take("[")
        shape = tuple(self._list("]", self._size))
        strides: tuple[Dim, ...] | None = contiguous_strides(shape)
        if self._at("{"):
            self._next()
            if self._at("none"):
                self._next()
                self._take("}")
                strides = None
            else:
                strides = tuple(self._list("}", self._size))
        device = _CPU
        if self._at("on"):
            self._next()
            device = torch.device(self._string())
        return TensorType(DTYPES[name], shape, strides, device)

    def _size(self) -> Dim:
        return parse_expression(self._next()[1:-1]) if self.kind == "expr" else self._integer()


class _Keyword:
    """A keyword operand's name, met before its value."""

    def __init__(self, name: str) -> None:
        self.name = name


def _number(text: str) -> int | float:
    return float(text) if re.search(r"[.einf]", text) else int(text)
