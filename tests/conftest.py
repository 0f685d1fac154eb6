"""Tests run on one thread each, so that two of them share two cores."""

import torch

torch.set_num_threads(1)
