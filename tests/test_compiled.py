"""After `torch.compile(opt.module)`, changes of the model are noticed as if the model had been compiled."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

import graphopt

X = torch.randn(2, 4)
SCALE = 2


class Config:
    def __init__(self) -> None:
        self.factor = 2


def halved(x: torch.Tensor, by: float = 2.0) -> torch.Tensor:
    return x / by


class Net(nn.Module):
    unit = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4)])
        self.register_buffer("bias", torch.ones(4))
        self.register_parameter("maybe", None)
        self.factor, self.config, self.table, self.named = 2.0, Config(), [2], {"a": 3}
        self.activation, self.optional = torch.relu, None
        self.softened = partial(torch.nn.functional.gelu, approximate="tanh")
        self.clipped = partial(torch.clamp, torch.tensor(0.5))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(self.activation(self.layers[0](x))) * self.factor * self.config.factor * SCALE
        for each in self.table:
            y = y * each * self.named["a"]
        if self.maybe is not None:
            y = y + self.maybe
        if self.optional is not None:
            y = y * self.optional
        y = self.softened(halved(self.doubled(y)) * self.sign * self.unit) + self.clipped(max=1.0)
        return (y + self.bias).to(self.layers[0].weight.dtype)

    def doubled(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @property
    def sign(self) -> int:
        return -1


class Scaled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 7


def set_global(model: Net) -> None:
    global SCALE
    SCALE = 3


def widen(model: Net) -> None:
    model.layers[0].weight = nn.Parameter(torch.randn(6, 4))
    model.layers[0].bias = nn.Parameter(torch.randn(6))
    model.bias = torch.ones(6)


CHANGES: dict[str, Callable[[Net], object]] = {
    "an attribute": lambda m: setattr(m, "factor", 3.0),
    "an attribute that was none": lambda m: setattr(m, "optional", 3),
    "a parameter that was none": lambda m: setattr(m, "maybe", nn.Parameter(torch.ones(4))),
    "an attribute of an object": lambda m: setattr(m.config, "factor", 3),
    "an entry of a list": lambda m: m.table.__setitem__(0, 5),
    "a list grows": lambda m: m.table.append(5),
    "another list": lambda m: setattr(m, "table", [5]),
    "an entry of a dictionary": lambda m: m.named.__setitem__("a", 5),
    "a function": lambda m: setattr(m, "activation", torch.sin),
    "a partial function": lambda m: setattr(m, "softened", torch.sin),
    "the function of a partial one": lambda m: setattr(
        m, "softened", partial(torch.div, other=3.0)
    ),
    "a keyword of a partial function": lambda m: setattr(
        m, "softened", partial(torch.nn.functional.gelu, approximate="none")
    ),
    "a keyword in its place": lambda m: m.softened.keywords.update(approximate="none"),
    "an argument of a partial function": lambda m: setattr(
        m, "clipped", partial(torch.clamp, torch.tensor(0.25))
    ),
    "one more argument of a partial function": lambda m: setattr(
        m, "clipped", partial(torch.clamp, torch.tensor(0.5), 0.75)
    ),
    "a sub-module": lambda m: m.layers.__setitem__(0, nn.Linear(4, 4, bias=False)),
    "the class of a sub-module": lambda m: setattr(m.layers[0], "__class__", Scaled),
    "the forward of a sub-module": lambda m: setattr(m.layers[0], "forward", lambda x: x * 3),
    "the mode of a sub-module": lambda m: m.drop.train(),
    "the shape of a parameter": widen,
    "the dtype of a parameter": lambda m: m.layers.double(),
    "a global": set_global,
    "a constant of the class": lambda m: setattr(Net, "unit", 3.0),
    "a method": lambda m: setattr(Net, "doubled", lambda self, x: x * 5),
    "a method hidden by an attribute": lambda m: setattr(m, "doubled", lambda x: x * 5),
    "a default": lambda m: setattr(halved, "__defaults__", (5.0,)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_noticed_in_one_graph_when(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SCALE", 2)
    for name_in_class in ("unit", "doubled", "sign"):  # put back afterwards
        monkeypatch.setattr(Net, name_in_class, vars(Net)[name_in_class])
    monkeypatch.setattr(halved, "__defaults__", (2.0,))
    torch._dynamo.reset()
    model = Net().eval()
    opt = graphopt.optimize(model, (X,), verify=False)
    ran: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        ran.append(str(graph.graph))
        return graph.forward

    compiled = torch.compile(opt.module, fullgraph=True, backend=backend)
    assert torch.equal(compiled(X), model(X))
    assert "aten.linear" in ran[0]  # the graph, not the original
    CHANGES[name](model)
    results = []
    for run in (model, compiled):
        torch.manual_seed(0)
        try:
            results.append(run(X))
        except RuntimeError as error:
            assert "dtype" in str(error)
            results.append(torch.zeros(()))
    assert torch.equal(*results)


def test_a_closed_over_number_is_noticed() -> None:
    factor = 2

    def program(x: torch.Tensor) -> torch.Tensor:
        return x * factor

    torch._dynamo.reset()
    compiled = torch.compile(
        graphopt.optimize(program, (X,), measure=False).module, fullgraph=True, backend="eager"
    )
    assert torch.equal(compiled(X), X * 2)
    factor = 3
    assert torch.equal(compiled(X), X * 3)


def test_a_variable_of_a_function_among_the_arguments_is_noticed() -> None:
    factor = 2

    def scale(x: torch.Tensor) -> torch.Tensor:
        return x * factor * SCALE

    torch._dynamo.reset()
    module = graphopt.optimize(lambda x, f: f(x), (X, scale), measure=False).module
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    assert torch.equal(compiled(X, scale), X * 4)
    factor = 3
    assert torch.equal(compiled(X, scale), X * 6)


def test_the_graph_is_what_is_compiled() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return x.sin() + x.sin()

    targets: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        targets.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(
            graphopt.optimize(program, (X,), measure=False).module, fullgraph=True, backend=backend
        )(X)
    assert targets == [torch.ops.aten.sin.default, torch.ops.aten.add.Tensor]
    torch.compile(
        graphopt.optimize(Net().eval(), (X,), measure=False).module, fullgraph=True, backend=backend
    )(X)
    assert torch.ops.aten.linear.default in targets


def test_a_model_that_sets_requires_grad_is_left_to_the_compiler() -> None:
    class Model(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = x[:, None]
            hidden.requires_grad = True
            return super().forward(hidden)

    model = Model(4, 4).requires_grad_(False)
    opt = graphopt.optimize(model, (X,), measure=False)
    assert opt(X).requires_grad
    assert torch.compile(opt.module, backend="aot_eager")(X).requires_grad
