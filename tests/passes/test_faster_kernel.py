"""Faster kernels: another library where it takes less time, and where nobody can tell but by the clock."""

import json
from collections.abc import Iterator

import pytest
import torch
from torch.autograd import forward_ad

import graphopt
from graphopt import profile
from graphopt.internals import has_onednn
from graphopt.ir.ops import ONEDNN_LINEAR
from passes.faster_kernel import FasterKernel
from tests.passes.golden import fires_and_refuses

pytestmark = pytest.mark.skipif(not has_onednn(), reason="this build of torch has no oneDNN")
fires, refuses = fires_and_refuses(FasterKernel())

X, W, B = "%x: f32[512, 256] = argument 0", '%w: f32[128, 256] = param "w"', '%b: f32[128] = param "b"'
IMAGE, PIXELS = "%x: f32[1, 64, 28, 28] = argument 0", '%w: f32[256, 64, 1, 1] = param "w"'
LINEAR = "%y: f32[512, 128] = aten.linear.default(%x, %w, %b)\nreturn %y"


@pytest.fixture(autouse=True)
def as_on_the_machine_of_the_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its numbers are what decides here."""
    machine = json.loads(profile.default().to_json())["machine"]
    monkeypatch.setattr(profile, "this_machine", lambda: machine)
    yield


def _by_onednn(operands: str, shape: str = "512, 128", name: str = "y_1") -> str:
    return f'%{name}: f32[{shape}] = {ONEDNN_LINEAR}({operands}, "none", [], "")'


def test_a_linear_layer_is_computed_by_the_faster_library() -> None:
    fires(f"{X};{W};{B}", LINEAR, f"{_by_onednn('%x, %w, %b')}\nreturn %y_1")
    without = LINEAR.replace(", %b)", ")")
    fires(f"{X};{W}", without, f"{_by_onednn('%x, %w, None')}\nreturn %y_1")


@pytest.mark.parametrize("op", ["aten.mm.default", "aten.matmul.default"])
@pytest.mark.parametrize(("strides", "turned"), [("", "{1, 128}"), ("{1, 256}", "")])
def test_a_product_of_matrices_is_one_whichever_way_they_lie(op: str, strides: str, turned: str) -> None:
    inputs = f"{X};%w: f32[256, 128]{strides} = argument 1"
    fires(
        inputs,
        f"%y: f32[512, 128] = {op}(%x, %w)\nreturn %y",
        f"""%y_1: f32[128, 256]{turned} = aten.t.default(%w)
        {_by_onednn("%x, %y_1, None", name="y_2")}
        return %y_2""",
    )


def test_a_product_that_is_added_to_a_row_is_a_linear_layer() -> None:
    before = "%y: f32[512, 128] = aten.addmm.default(%b, %x, %w)\nreturn %y"
    inputs = f"{X};%w: f32[256, 128] = argument 1;%b: f32[128] = argument 2"
    fires(
        inputs,
        before,
        f"""%y_1: f32[128, 256]{{1, 128}} = aten.t.default(%w)
        {_by_onednn("%x, %y_1, %b", name="y_2")}
        return %y_2""",
    )
    refuses(inputs, before.replace("%w)", "%w, beta=0.5)"))
    refuses(inputs.replace("f32[128]", "f32[512, 1]"), before)
    refuses(inputs.replace("f32[128]", "f32[1]"), before)


def test_a_convolution_of_single_pixels_is_a_product() -> None:
    bias = '%b: f32[256] = param "b"'
    fires(
        f"{IMAGE};{PIXELS};{bias}",
        "%y: f32[1, 256, 28, 28] = aten.conv2d.default(%x, %w, %b)\nreturn %y",
        f"""%y_1: f32[64, 784] = aten.view.default(%x, [64, 784])
        %y_2: f32[784, 64]{{1, 784}} = aten.t.default(%y_1)
        %y_3: f32[256, 64] = aten.view.default(%w, [256, 64])
        {_by_onednn("%y_3, %y_2, None", "256, 784", "y_4")}
        %y_5: f32[256, 1] = aten.unsqueeze.default(%b, 1)
        %y_6: f32[256, 784] = aten.add.Tensor(%y_4, %y_5)
        %y_7: f32[1, 256, 28, 28] = aten.view.default(%y_6, [1, 256, 28, 28])
        return %y_7""",
    )


@pytest.mark.parametrize(
    ("image", "weight", "made", "more"),
    [
        ("2, 64, 28, 28", "256, 64, 1, 1", "2, 256, 28, 28", ""),
        ("1, 64, 28, 28", "256, 64, 1, 1", "1, 256, 14, 14", ", None, [2, 2]"),
        ("1, 64, 28, 28", "256, 64, 1, 1", "1, 256, 30, 30", ", None, [1, 1], [1, 1]"),
        ("1, 64, 28, 28", "256, 16, 1, 1", "1, 256, 28, 28", ", None, [1, 1], [0, 0], [1, 1], 4"),
        ("1, 64, 28, 28", "256, 64, 3, 3", "1, 256, 26, 26", ""),
        ("64, 28, 28", "256, 64, 1, 1", "256, 28, 28", ""),
    ],
)
def test_other_convolutions_stay(image: str, weight: str, made: str, more: str) -> None:
    inputs = f'%x: f32[{image}] = argument 0;%w: f32[{weight}] = param "w"'
    refuses(inputs, f"%y: f32[{made}] = aten.conv2d.default(%x, %w{more})\nreturn %y")


@pytest.mark.parametrize(
    ("inputs", "made"),
    [
        (f"{X};{W};{B}".replace("f32", "bf16"), "bf16[512, 128]"),
        (f"{X};{W};{B}".replace("f32", "f64"), "f64[512, 128]"),
        (f"{X.replace('512, 256]', '512, 256]{512, 1}')};{W};{B}", "f32[512, 128]"),  # with gaps
        (f"{X.replace('512, 256]', '512, 256]{1, 64}')};{W};{B}", "f32[512, 128]"),  # it would be copied
        (f"{X};{W.replace('128, 256]', '128, 256]{512, 1}')};{B}", "f32[512, 128]"),
        (f"{X.replace('512, 256', '256')};{W};{B}", "f32[128]"),
        (f"{X.replace('512', '0')};{W};{B}", "f32[0, 128]"),
        (f"{X.replace('512', '1')};{W};{B}", "f32[1, 128]"),  # slower there
    ],
)
def test_what_the_library_has_no_faster_kernel_for_stays(inputs: str, made: str) -> None:
    refuses(inputs, f"%y: {made} = aten.linear.default(%x, %w, %b)\nreturn %y")


class _Products(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.pixels = torch.nn.Linear(64, 64), torch.nn.Conv2d(64, 64, 1)

    def forward(self, x: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.linear(x), x @ x.t(), torch.addmm(self.linear.bias, x, x[:64]), self.pixels(image)


def test_what_has_symbolic_sizes_stays() -> None:
    size = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        found = graphopt.optimize(
            _Products().eval(),
            (torch.randn(512, 64), torch.randn(1, 64, 64, 64)),
            dynamic_shapes=({0: size}, {2: size}),
            measure=False,
        )
    assert found.report.equivalent and not any(node.op == ONEDNN_LINEAR for node in found.graph.nodes)


def test_where_gradients_are_wanted_torch_computes() -> None:
    refuses(f"{X};{W};{B}", LINEAR, gradients=True)


def test_what_is_computed_once_stays() -> None:
    refuses(f"{X.replace('argument 0', 'param')} ;{W};{B}".replace("param ;", 'param "x";'), LINEAR)


def test_another_makers_machine_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "this_machine", lambda: "Intel Xeon; AVX512")
    refuses(f"{X};{W};{B}", LINEAR)


def test_a_build_without_the_library_computes_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.kernels.has_onednn", lambda: False)
    refuses(f"{X};{W};{B}", LINEAR)


@pytest.fixture(scope="module")
def layers() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 256)).eval()


@pytest.fixture
def optimized(layers: torch.nn.Module) -> graphopt.Optimized:
    with torch.no_grad():
        found = graphopt.optimize(layers, (torch.randn(64, 256),), measure=False)
    assert found.report.equivalent and [n.op for n in found.graph.nodes].count(ONEDNN_LINEAR) == 2
    return found


def test_compilers_and_files_get_operators_that_they_know(
    layers: torch.nn.Module, optimized: graphopt.Optimized
) -> None:
    seen: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        seen.extend(str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return module

    x = torch.randn(64, 256)
    with torch.no_grad():
        made = torch.compile(optimized.module, fullgraph=True, backend=backend)(x)
        assert torch.equal(made, optimized.module(x))
        assert seen.count("graphopt_kernels.linear.default") == 2
        exported = torch.export.export(optimized.module, (x,))
        assert torch.equal(exported.module()(x), layers(x))
    assert [str(node.target) for node in exported.graph.nodes].count("aten.linear.default") == 2


def test_tangents_flow_where_gradients_do_not(layers: torch.nn.Module, optimized: graphopt.Optimized) -> None:
    x, direction = torch.randn(64, 256), torch.randn(64, 256)
    with forward_ad.dual_level(), torch.no_grad():
        dual = forward_ad.make_dual(x, direction)
        expected, found = (forward_ad.unpack_dual(one(dual)).tangent for one in (layers, optimized.module))
    assert expected is not None and torch.equal(expected, found)


def test_gradients_are_the_originals(layers: torch.nn.Module, optimized: graphopt.Optimized) -> None:
    x = torch.randn(64, 256, requires_grad=True)
    expected, found = (torch.autograd.grad(one(x).sum(), x)[0] for one in (layers, optimized.module))
    assert torch.equal(expected, found)
