"""Branches on random numbers, and random numbers from outside torch."""

import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import graphopt
from graphopt.module import serving_of

F = nn.functional
X = torch.arange(8.0).reshape(2, 4) + 1
STREAM = random.Random(0)


def states() -> list[str]:
    return [repr(s) for s in (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state())]


def seeded(program: Callable[..., Any], seed: int, *args: Any) -> tuple[Any, list[str]]:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    return program(*args), states()


@pytest.fixture(autouse=True)
def _streams_put_back() -> Iterator[None]:
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(before[0])
    np.random.set_state(before[1])


class LayerDrop(nn.Module):
    """Skips layers at random, as wav2vec 2.0 does."""

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = F.dropout(x, 0.5)
            if not torch.rand([]) < self.share:
                x = layer(x)
        return F.dropout(x, 0.5)


def by_python(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if random.random() < 0.5 else x + 1


def by_numpy(x: torch.Tensor) -> torch.Tensor:
    kept = [np.random.uniform(0, 1) >= 0.5 for _ in range(2)]
    return F.dropout(x, 0.5) * 2 if all(kept) else x + 1


@pytest.mark.parametrize("program", [LayerDrop(), by_python, by_numpy])
def test_whichever_way_a_random_branch_falls_the_call_is_eagers(program: Any) -> None:
    opt = graphopt.optimize(program, (X,), measure=False)
    strict = graphopt.optimize(program, (X,), verify=False, on_guard="error")
    ran = set()
    for seed in range(12):
        expected, after = seeded(program, seed, X)
        result, seen = seeded(opt, seed, X)
        assert torch.equal(result, expected)
        assert seen == after
        try:
            assert torch.equal(seeded(strict, seed, X)[0], expected)
            ran.add("graph")
        except graphopt.GuardError as error:
            assert "test_random_branches.py" in str(error)
            ran.add("original")
    assert ran == {"graph", "original"}


def test_a_call_given_up_leaves_the_random_state_as_it_was() -> None:
    strict = graphopt.optimize(LayerDrop(), (X,), on_guard="error", measure=False)
    for seed in range(12):
        torch.manual_seed(seed)
        before = states()
        try:
            strict(X)
        except graphopt.GuardError:
            assert states() == before
            return
    raise AssertionError("no branch fell otherwise")


def test_gradients_of_a_call_that_takes_the_captured_way_are_eagers() -> None:
    model = LayerDrop(0.1)
    opt = graphopt.optimize(model, (X,), on_guard="error", passes=[], measure=False)

    def gradients(module: Any) -> list[torch.Tensor | None]:
        model.zero_grad()
        seeded(module, 0, X)[0].sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    for expected, found in zip(gradients(model), gradients(opt), strict=True):
        assert expected is not None and found is not None
        assert torch.equal(expected, found)


def test_a_graph_that_is_given_up_more_often_than_not_is_taken_out_of_use() -> None:
    opt = graphopt.optimize(LayerDrop(0.5), (X,), measure=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(100):
            seeded(opt, seed, X)
    assert not serving_of(opt.module).variants
    assert torch.equal(seeded(opt, 7, X)[0], seeded(serving_of(opt.module).original, 7, X)[0])


def test_a_branch_on_much_of_the_models_work_is_asked_on_the_way() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x @ x
        return y if y.sum() > 0 else -y

    x = torch.ones(128, 128)
    opt = graphopt.optimize(program, (x,), on_guard="error", measure=False)
    assert [node.op for node in opt.graph.nodes].count("aten.matmul.default") == 1
    assert torch.equal(opt(x), program(x))
    with pytest.raises(graphopt.GuardError, match="was True at capture"):
        opt(F.pad(torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), (0, 126, 0, 126)))


def test_a_random_branch_after_a_write_is_refused() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return x if torch.rand(()) > 0.5 else x + 1

    with pytest.raises(graphopt.Unsupported, match=r"aten.rand.default, after a write"):
        graphopt.optimize(program, (X.clone(),), measure=False)


def test_a_program_with_random_branches_pickles() -> None:
    for program in (LayerDrop(0.1), by_python):
        opt = graphopt.optimize(program, (X,), on_guard="error", measure=False)
        again = pickle.loads(pickle.dumps(opt.module))
        assert torch.equal(seeded(again, 0, X)[0], seeded(opt, 0, X)[0])


def test_a_loaded_program_asks_the_branch_too(tmp_path: Any) -> None:
    opt = graphopt.optimize(LayerDrop(0.5), (X,), measure=False)
    opt.save(tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    with pytest.raises(RuntimeError, match="at capture"):
        for seed in range(12):
            seeded(loaded, seed, X)


def test_a_program_that_draws_from_outside_torch_is_not_saved(tmp_path: Any) -> None:
    with pytest.raises(graphopt.Unsupported, match="outside torch"):
        graphopt.optimize(by_python, (X,), measure=False).save(tmp_path / "model.pt2")


def test_a_draw_that_nothing_asks_is_made_at_each_call() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        drawn = np.random.uniform(0, 1)
        return x * 2 if x is None and drawn < 0.5 else x

    opt = graphopt.optimize(program, (X,), on_guard="error", measure=False)
    assert seeded(opt, 3, X)[1] == seeded(program, 3, X)[1]


def test_a_stream_that_forward_seeds_is_left_as_forward_leaves_it() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        np.random.seed(3)
        return x * torch.from_numpy(np.random.permutation(4))

    opt = graphopt.optimize(program, (X,), on_guard="error", measure=False)
    for seed in (1, 2):
        (result, after), (expected, eager) = (seeded(one, seed, X) for one in (opt, program))
        assert torch.equal(result, expected)
        assert after == eager


@pytest.mark.parametrize(
    "draw",
    [
        lambda: random.random() * 2,
        lambda: float(np.random.rand()),
        lambda: torch.tensor(random.random()),
        lambda: np.random.rand(1).item(),
        lambda: [1.0, 2.0][random.randint(0, 1)],
        lambda: random.choice([1.0, 2.0]),
        lambda: np.random.default_rng().random(),
        lambda: np.random.mtrand._rand.uniform(),  # past the functions that are watched
        lambda: np.random.seed() or 1.0,
        lambda: STREAM.random(),
    ],
)
def test_a_drawn_number_that_is_used_otherwise_is_refused(draw: Callable[[], Any]) -> None:
    before, own = states(), STREAM.getstate()
    with pytest.raises(graphopt.Unsupported, match=r"random|STREAM"):
        graphopt.optimize(lambda x: x * draw(), (X,), measure=False)
    assert states() == before
    assert STREAM.getstate() == own


def test_a_drawn_number_that_is_handed_out_is_refused() -> None:
    with pytest.raises(graphopt.Unsupported, match="random"):
        graphopt.optimize(lambda x: (x, random.random()), (X,), measure=False)


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng, np.random.RandomState])
def test_a_generator_of_the_models_own_that_forward_draws_from_is_refused(make: Callable[[int], Any]) -> None:
    class Draws(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator = make(0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.generator.random()

    model = Draws()
    with pytest.raises(graphopt.Unsupported, match="generator"):
        graphopt.optimize(model, (X,), measure=False)
    assert model.generator.random() == make(0).random()


def test_what_forward_does_to_the_outer_streams_is_observed() -> None:
    from graphopt.verify.observation import observe

    assert observe(random.random, ()).random_state != observe(lambda: None, ()).random_state
    assert observe(np.random.rand, ()).random_state != observe(lambda: None, ()).random_state
