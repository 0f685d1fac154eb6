"""`optimize()` and `Optimized`: the one front door."""

from typing import Any

import torch

from graphopt.capture import Program, capture
from graphopt.errors import Unsupported
from graphopt.ir.graph import Graph
from graphopt.module import OptimizedModule, Policy

class Optimized:
    def __init__(self, module: OptimizedModule):
        self.module=module
    def __call__(self,*a,**k): return self.module(*a,**k)
    @property
    def graph(self): return self.module._variants[0].program.graph
    @property
    def graph_module(self): return self.module._variants[0].graph_module

class _Function(torch.nn.Module):
    def __init__(self, function): 
        super().__init__(); self.function=function; self.forward=function

def optimize(model, args=None, kwargs=None, *, passes=None, dynamic_shapes=None, verify=True, measure=True, on_guard="original", nonfinite="finite", seed=0, time_budget_s=None):
    if not isinstance(model, torch.nn.Module): model=_Function(model)
    pol=Policy(on_guard, lambda a,k: capture(model,a,k))
    progs=() if args is None else (capture(model,tuple(args),kwargs or {}, dynamic_shapes),)
    return Optimized(OptimizedModule(model, progs, pol))
