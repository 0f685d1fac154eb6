"""Every way in which a tensor can change, or be another, is noticed."""

import pytest
import torch

from graphopt.cache.staleness import Watch, is_watchable


def _parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.rand(*shape) + 1)


def test_nothing_happened() -> None:
    tensors = _parameter(40, 30), torch.rand(7), torch.rand(0), torch.arange(3), torch.rand(6, 4).t()
    watch = Watch(tensors)
    tensors[0].sum().backward()
    assert watch.unchanged(tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.complex128])
def test_every_dtype_is_sampled(dtype: torch.dtype) -> None:
    tensor = torch.ones(1000, dtype=dtype)
    watch = Watch([tensor])
    assert watch.unchanged([tensor])
    tensor.data.zero_()
    assert not watch.unchanged([tensor])


WRITES = {
    "in place": lambda p: torch.no_grad()(p.mul_)(2),
    "data": lambda p: p.data.mul_(2),
    "numpy": lambda p: p.detach().numpy().fill(5),
    "data exchanged": lambda p: setattr(p, "data", p.data.clone()),
    "strides exchanged": lambda p: setattr(p, "data", p.data.t()),
    "view": lambda p: p.detach()[0].zero_(),
    "inference mode": lambda p: torch.inference_mode()(p.add_)(1),
    "set_": lambda p: torch.no_grad()(p.set_)(torch.zeros(30, 30)),
    "vector_to_parameters": lambda p: torch.nn.utils.vector_to_parameters(torch.rand(900), [p]),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_noticed(write: str) -> None:
    parameter = _parameter(30, 30)
    watch = Watch([parameter])
    WRITES[write](parameter)
    assert not watch.unchanged([parameter])


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "fused adam": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "fused adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, fused=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_step_is_noticed_even_where_it_hides_from_the_sample(optimizer: str) -> None:
    parameter = _parameter(1000, 30)
    watch = Watch([parameter])
    parameter.grad = torch.zeros_like(parameter)
    parameter.grad[1, 1] = 1.0
    OPTIMIZERS[optimizer]([parameter]).step()
    assert not watch.unchanged([parameter])


def test_a_step_of_another_optimiser_is_none_of_ours() -> None:
    ours, theirs = _parameter(3), _parameter(3)
    watch = Watch([ours])
    theirs.grad = torch.ones(3)
    torch.optim.SGD([theirs], lr=0.1).step()
    assert watch.unchanged([ours])


def test_a_step_on_a_view_of_the_memory_is_noticed() -> None:
    flat = torch.rand(1000)
    watch = Watch([flat])
    part = flat[301:302].requires_grad_()
    part.grad = torch.ones(1)
    torch.optim.AdamW([part], lr=1e-3, fused=True).step()
    assert not watch.unchanged([flat])


def test_another_object_on_the_same_memory_is_another() -> None:
    tensor = torch.rand(5)
    watch = Watch([tensor])
    assert not watch.unchanged([tensor.detach()])


def test_what_was_freed_never_comes_back() -> None:
    watch, addresses = None, set()
    for _ in range(2000):
        tensor = torch.full((64,), 3.0)
        assert watch is None or not watch.unchanged([tensor])
        addresses.add((id(tensor), tensor.data_ptr()))
        watch = Watch([tensor])
        del tensor
    assert len(addresses) < 2000  # some did come back


def test_swapped_tensors_are_noticed_and_may_be_swapped() -> None:
    a, b = _parameter(4), _parameter(4)
    watch = Watch([a])
    torch.utils.swap_tensors(a, b)
    assert not watch.unchanged([a])


def test_what_cannot_be_watched() -> None:
    with torch.inference_mode():
        assert not is_watchable(torch.rand(3))
    assert not is_watchable(torch.rand(3, device="meta"))
    assert not is_watchable(torch.rand(3, 3).to_sparse())
    assert not is_watchable(torch.rand(3, dtype=torch.complex64).conj())
    assert is_watchable(torch.rand(3))
    found = []
    torch.func.vmap(lambda t: found.append(is_watchable(t)) or t)(torch.rand(2, 2))
    assert found == [False]
