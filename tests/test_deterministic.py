"""Decisions are the same for one profile, in every process."""

import os
import subprocess
import sys

PROGRAM = """
import torch
from torch import nn

import graphopt
from graphopt.ir.text import print_graph
from graphopt.profile import default

torch.manual_seed(0)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(64, 64))
        self.table = nn.Parameter(torch.randn(64, 8))

    def forward(self, x):
        y = self.last(self.layer(x)) + self.last(self.layer(x))
        return y.mean(1) @ self.table @ self.table.t(), (y[0] @ y[1].t()).sum()

model = Model().eval().requires_grad_(False)
with torch.no_grad():
    opt = graphopt.optimize(model, (torch.randn(2, 256, 64),), profile=default(), measure=False)
for step in opt.report.steps:
    print(step.pass_name, step.site.node, step.why)
print(print_graph(opt.graph))
"""


def test_two_processes_with_other_hash_seeds_decide_alike() -> None:
    said = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
        said.append(run.stdout)
    assert said[0] == said[1]
    assert "sum-product" in said[0]
