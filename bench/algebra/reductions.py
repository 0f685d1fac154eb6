"""Reductions of one element, and functions that do nothing in the range of their operand."""

import torch
from torch.nn.functional import linear, relu

from bench.algebra.expression import Expression

_X, _Y = (1000, 1000), (1000, 1000, 1)

CATALOGUE = (
    Expression(
        "a mean over one element", lambda x: torch.tanh(x.mean(2)), lambda x: torch.tanh(x.squeeze(2)), (_Y,)
    ),
    Expression(
        "x − mean(x) of one element",
        lambda x, y: y + (x - x.mean(-1, keepdim=True)),
        lambda x, y: y + 0,
        (_Y, _Y),
    ),
    Expression(
        "log-sum-exp of one element", lambda x: torch.logsumexp(x, 2), lambda x: x.squeeze(2).clone(), (_Y,)
    ),
    Expression(
        "softmax of one element", lambda x, v: torch.softmax(x, -1) * v, lambda x, v: v.clone(), (_Y, _Y)
    ),
    Expression("largest of one element", lambda x: x.amax(-1) * 2, lambda x: x.squeeze(-1) * 2, (_Y,)),
    Expression("clamp after sigmoid", lambda x: torch.sigmoid(x).clamp(0, 1), torch.sigmoid, (_X,)),
    Expression(
        "relu after softmax", lambda x: relu(torch.softmax(x, -1)), lambda x: torch.softmax(x, -1), (_X,)
    ),
    Expression("abs of a square", lambda x: (x * x).abs() + 1, lambda x: x * x + 1, (_X,)),
    Expression(
        "clamp before tanh's range ends",
        lambda x: torch.tanh(x).clamp(-2, 2) + 1,
        lambda x: torch.tanh(x) + 1,
        (_X,),
    ),
    Expression("relu twice", lambda x: relu(relu(x)), relu, (_X,)),
    Expression(
        "sum over a dimension that was expanded",
        lambda x: x.expand(1000, 1000, 32).sum(2),
        lambda x: 32 * x.squeeze(2),
        (_Y,),
    ),
    Expression("mean of means", lambda x: x.mean(1).mean(0), lambda x: x.mean(), (_X,)),
    Expression(
        "sum of a difference from the mean, weighted",
        lambda x, w: (linear(x - x.mean(1, keepdim=True), w)).sum(1),
        lambda x, w: (x - x.mean(1, keepdim=True)) @ w.sum(0),
        (_X,),
        ((256, 1000),),
    ),
)
