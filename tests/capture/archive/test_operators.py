"""Operators may compute and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.capture.archive import load_program
from graphopt.capture.archive_operators import check_operator
from graphopt.capture.archive_refusal import Refusal
from graphopt.errors import Unsupported
from tests.capture.archive.samples import Json, edited, graph, members_of, zipped


@pytest.mark.parametrize(
    "name",
    [
        "torch.ops.aten.add.Tensor",
        "torch.ops.aten.item.default",
        "torch.ops.aten.__and__.Tensor",
        "torch.ops.higher_order.cond",
        "_operator.floordiv",
        "torch.sym_max",
    ],
)
def test_an_operator_may_compute(name: str) -> None:
    check_operator(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.save.default",  # TorchScript's: writes a file
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add",
        "torch.ops.aten.add.Tensor.__call__",
        "torch.ops.nobody.knows.default",
        "torch.ops.higher_order.aoti_call_delegate",
        "torch.ops.higher_order.inline_asm_elementwise",
        "torch.export.custom_ops._call_custom_autograd_function_in_pre_dispatch",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.factorial",
        "#extension:op",
        "builtins.eval",
        "",
    ],
)
def test_an_operator_may_do_nothing_else(name: str) -> None:
    with pytest.raises(Refusal):
        check_operator(name)


def test_text_for_another_librarys_operator_is_refused(path: Path, image: bytes) -> None:
    """Such an operator may take a path; on tensors and numbers it is allowed."""

    def change(program: Json) -> None:
        node = graph(program)["nodes"][-1]
        node["target"] = "torch.ops.profiler._record_function_enter.default"
        node["inputs"] = [{"name": "name", "arg": {"as_string": "x"}, "kind": 1}]

    members = members_of(image)
    edited(members, change)
    path.write_bytes(zipped(members))
    with pytest.raises(Unsupported, match="'profiler' with text"):
        load_program(path)
