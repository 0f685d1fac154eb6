"""Nodes know where in the source they come from."""

import torch

import graphopt


def test_captured_source_lines_name_file_line_text_and_module() -> None:
    class Inner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.part(x)

        def part(self, x: torch.Tensor) -> torch.Tensor:
            return x.sin()  # here

    opt = graphopt.optimize(
        torch.nn.Sequential(torch.nn.Tanh(), Inner()), (torch.zeros(2),), passes=[], measure=False
    )
    (origin,) = opt.graph.nodes[1].origins
    assert (origin.file, origin.module) == (__file__, "1")
    assert "x.sin()" in origin.text
    assert origin.line == Inner.part.__code__.co_firstlineno + 1
