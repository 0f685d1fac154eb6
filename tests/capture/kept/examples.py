"""What the programs are run on."""

from collections import namedtuple

import torch
from torch import nn

F = nn.functional
X = torch.arange(8.0).reshape(2, 4) - 3
PAIR = namedtuple("PAIR", "left right")
