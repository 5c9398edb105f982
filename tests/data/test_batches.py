"""Which images a batch has: its order, the images held out, those for evaluation, and what resumes; on 23 images."""

from __future__ import annotations

from inspect import signature
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bvae.data import ArrayImages, ImagesDataModule
from bvae.data.batches import Batches, Numbers, Positions

N = 23
PIXELS = np.arange(N, dtype=np.uint8)[:, None, None].repeat(2, axis=1).repeat(2, axis=2) + 10  # image n is n + 10
FACTORS = np.stack([np.arange(N) % 5, np.arange(N) // 5], axis=1)


def module(**options) -> ImagesDataModule:
    data = ImagesDataModule(ArrayImages(PIXELS, FACTORS), **{"batch_size": 4, "eval_images": 6} | options)
    data.setup()
    return data


def numbers(batches) -> list[list[int]]:
    """Each batch's images, by their positions, off their pixels."""
    return [(images[:, 0, 0, 0].int() - 10).tolist() for images, _ in batches]


def flat(batches) -> list[int]:
    return list(chain.from_iterable(batches))


def order(*key: int, of: int = N) -> np.ndarray:
    return np.random.default_rng(key).permutation(of)


def test_seed_and_epoch_are_told_apart_in_the_order():
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (3, 2)):
        batches = Batches(None, np.arange(N), 4, seed)
        found = np.concatenate([batches.indices_of(epoch * len(batches) + n) for n in range(len(batches))])
        assert np.array_equal(found, order(seed, epoch))
    assert not np.array_equal(order(0, 1), order(1, 0))


def test_numbers_count_on_over_the_epochs_in_whatever_order_they_are_asked_for():
    batches = Batches(None, np.arange(N), 4, seed=0)
    assert len(batches) == 6  # 5 of four images, and one of three
    epochs = [order(0, 0), order(0, 1), order(0, 2)]
    for number in (0, 5, 6, 11, 12, 3, 0):
        epoch, batch = divmod(number, 6)
        assert batches.indices_of(number).tolist() == epochs[epoch][4 * batch : 4 * batch + 4].tolist()


def test_without_a_seed_batches_are_in_order_in_every_epoch():
    batches = Batches(None, np.array([7, 3, 5, 1]), 3)
    assert [batches.indices_of(n).tolist() for n in range(4)] == [[7, 3, 5], [1]] * 2


@pytest.mark.parametrize(
    ("n", "world_size", "sizes"),
    [
        (23, 2, [(4, 4), (4, 4), (4, 3)]),
        (17, 2, [(4, 4), (4, 4)]),  # the one image that is left can't be two processes'
        (18, 2, [(4, 4), (4, 4), (1, 1)]),
        (24, 3, [(4, 4, 4), (4, 4, 4)]),
        (5, 1, [(4,), (1,)]),
    ],
)
def test_each_process_gets_its_part_of_every_batch(n, world_size, sizes):
    processes = [Batches(None, np.arange(n), 4, 0, rank, world_size) for rank in range(world_size)]
    assert {len(batches) for batches in processes} == {len(sizes)}
    parts = [[batches.indices_of(number) for batches in processes] for number in range(len(sizes))]
    assert [tuple(len(part) for part in batch) for batch in parts] == sizes
    together = np.concatenate([part for batch in parts for part in batch])
    assert together.tolist() == order(0, 0, of=n)[: len(together)].tolist()


def test_a_sampler_begins_with_the_batch_that_the_training_has_reached():
    batches = Batches(None, np.arange(N), 4, seed=0)
    for taken in (0, 2, 6, 20):
        sampler = Numbers(batches, lambda taken=taken: taken)
        assert list(sampler) == list(range(taken, taken + 6))
        assert len(sampler) == 6
        assert (sampler.num_replicas, sampler.rank) == (1, 0)


def test_an_epoch_draws_one_number_from_the_global_generator_and_the_rest_of_one_none():
    """A loader's own seed was drawn there, and the training's noise comes after it."""

    def left_after(taken: int, draws: int) -> tuple[torch.Tensor, torch.Tensor]:
        data = module()
        data.trainer = SimpleNamespace(global_rank=0, world_size=1, fit_loop=SimpleNamespace(total_batch_idx=taken - 1))
        torch.manual_seed(0)
        next(iter(data.train_dataloader()))
        found = torch.rand(3)
        torch.manual_seed(0)
        for _ in range(draws):
            torch.empty((), dtype=torch.int64).random_()
        return found, torch.rand(3)

    for taken, draws in ((0, 1), (6, 1), (12, 1), (1, 0), (5, 0), (7, 0)):
        assert torch.equal(*left_after(taken, draws)), taken
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    for loader in (module().predict_dataloader(), module().test_dataloader()):
        list(loader)
    assert torch.equal(torch.rand(3), expected)


def test_the_images_held_out_are_the_first_of_an_order_that_no_epoch_has():
    for seed in (0, 1):
        data = module(val_fraction=0.3, seed=seed)
        held_out = np.sort(order(seed, 2**32)[:7])  # 0.3 · 23 = 6.9
        assert (data.held_out, data.train_size) == (7, 16)
        assert flat(numbers(data.val_dataloader())) == held_out.tolist()
        rest = np.setdiff1d(np.arange(N), held_out)
        trained_on = flat(numbers(data.train_dataloader()))
        assert trained_on == np.random.default_rng((seed, 0)).permutation(rest).tolist()
        data.trainer = SimpleNamespace(global_rank=0, world_size=1, fit_loop=SimpleNamespace(total_batch_idx=2))
        assert flat(numbers(data.val_dataloader())) == held_out.tolist()  # from the first on, wherever the training is


def test_without_images_held_out_there_is_nothing_to_validate_on():
    assert module().val_dataloader() == []
    assert module().train_size == N


def test_processes_share_the_batches_of_training_and_validation():
    shares = []
    for rank in (0, 1):
        data = module(val_fraction=0.5)
        state = SimpleNamespace(total_batch_idx=-1)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2, fit_loop=state)
        shares.append((numbers(data.train_dataloader()), numbers(data.val_dataloader())))
    (train, val), (trains, vals) = shares
    assert [len(batch) for batch in train + val] == [4, 2, 4, 2]  # of 11 and 12 images, in batches of 8
    assert [len(batch) for batch in trains + vals] == [4, 1, 4, 2]
    assert sorted(flat(train + val + trains + vals)) == list(range(N))


def test_images_for_evaluation_are_the_same_for_every_seed_and_all_are_tested():
    for seed in (0, 1):
        data = module(seed=seed, val_fraction=0.2)
        assert numbers(data.predict_dataloader()) == [order(0)[:6].tolist()]
        assert numbers(data.test_dataloader()) == [list(range(N))]
        assert data.images(2)[:, 0, 0, 0].tolist() == pytest.approx((order(0)[:2] + 10) / 255)
    many = ImagesDataModule(ArrayImages(np.zeros((1100, 2, 2), np.uint8)), eval_images=2000)
    many.setup()
    for loader in (many.predict_dataloader(), many.test_dataloader()):
        assert [len(images) for images, _ in loader] == [500, 500, 100]
    unprepared = ImagesDataModule(ArrayImages(PIXELS, FACTORS), batch_size=4, eval_images=6)
    assert len(unprepared.images(1)) == 1
    for n in (0, 7):
        with pytest.raises(ValueError, match=rf"^n must be 1 to data\.eval_images=6, got {n}$"):
            module().images(n)


def test_images_that_are_on_the_device_travel_as_positions():
    data, resident = module(), module(on_device=True)
    for ours, theirs in zip(resident.train_dataloader(), data.train_dataloader(), strict=True):
        assert ours[0].dtype == torch.int64
        assert torch.equal(ours[1], theirs[1])
        found, factors = resident.on_after_batch_transfer(ours, 0)
        assert torch.equal(found, data.on_after_batch_transfer(theirs, 0)[0])
        assert torch.equal(factors, theirs[1])
        held = resident.resident[torch.device("cpu")]
        assert held.dtype == torch.uint8  # as they travel
        assert len(held) == N
    assert Positions(data.image_set)[np.array([3])][1].tolist() == [FACTORS[3].tolist()]


def test_a_module_serves_a_set_with_the_options_of_both(tmp_path, monkeypatch):
    data = ImagesDataModule.of(
        lambda **own: ArrayImages(PIXELS, **own), factors=FACTORS, batch_size=3, seed=5, cache_dir=str(tmp_path)
    )
    assert (data.batch_size, data.seed, data.cache_dir) == (3, 5, tmp_path)
    assert data.factors.sizes == (5, 5)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert module(cache_dir="~/x/../y").cache_dir == tmp_path / "y"
    assert module(cache_dir="z").cache_dir == Path.cwd() / "z"
    assert module(num_workers=0).train_dataloader().num_workers == 0
    assert module(num_workers=2).val_dataloader() == []
    assert module(num_workers=2).train_dataloader().num_workers == 2


def test_workers_serve_the_same_batches_and_say_where_shared_memory_is_full(monkeypatch):
    def batches(num_workers):
        return list(module(num_workers=num_workers).train_dataloader())

    for found, expected in zip(batches(num_workers=1), batches(num_workers=0), strict=True):
        assert all(map(torch.equal, found, expected))

    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # which the workers inherit
    with pytest.raises(RuntimeError, match=r"unable to allocate shared memory\(shm\)"):
        batches(num_workers=1)
    assert len(batches(num_workers=0)) > 1


def test_the_defaults_of_a_module_are_those_that_recorded_runs_count_on():
    defaults = {name: parameter.default for name, parameter in signature(ImagesDataModule).parameters.items()}
    del defaults["images"]
    assert defaults == {
        "cache_dir": None,
        "batch_size": 64,
        "val_fraction": 0.0,
        "eval_images": 10_000,
        "seed": 0,
        "num_workers": 0,
        "on_device": False,
    }


def test_a_loader_has_no_state_but_its_module_knows_how_many_images_there_were():
    data = module()
    loader = data.train_dataloader()
    assert loader.state_dict() == {}
    loader.load_state_dict({"anything": 1})
    assert data.state_dict() == {"images": N, "digest": data.image_set.digest}
    with pytest.raises(ValueError, match=r"began with 24 images and now there are 23: .*init_from="):
        data.load_state_dict({"images": 24})


REFUSED = {
    "batch_size": [
        (24, r"^data\.batch_size must be at most 23, all the images, got 24$"),
        (0, r"^data\.batch_size must be an integer of 1 or more, got 0$"),
        (True, r"^data\.batch_size must be an integer of 1 or more, got True$"),
        (4.0, r"^data\.batch_size must be an integer of 1 or more, got 4\.0$"),
    ],
    "eval_images": [(1, r"^data\.eval_images must be an integer of 2 or more, got 1$")],
    "seed": [(-1, r"^data\.seed must be an integer of 0 or more, got -1$")],
    "num_workers": [(-1, r"^data\.num_workers must be an integer of 0 or more, got -1$")],
    "on_device": [("no", r"^data\.on_device must be true or false, got 'no'$")],
    "val_fraction": [
        (1, r"^data\.val_fraction must be 0 or more and under 1, got 1$"),
        (-0.1, r"^data\.val_fraction must be 0 or more and under 1, got -0\.1$"),
        (
            0.01,
            r"^data\.val_fraction=0\.01 holds out 0 of 23 images; hold out one or more, .* or set 0$",
        ),
        (0.99, r"^data\.val_fraction=0\.99 holds out 23 of 23 images; "),
    ],
}
CASES = [(name, value, said) for name, cases in REFUSED.items() for value, said in cases]


@pytest.mark.parametrize(("name", "value", "said"), CASES, ids=[f"{name}={value}" for name, value, _ in CASES])
def test_a_bad_option_is_named_with_its_value_and_what_is_allowed(name, value, said):
    with pytest.raises(ValueError, match=said):
        module(**{name: value})


def test_the_smallest_and_the_largest_options_are_taken():
    module(batch_size=N, eval_images=2, seed=0)
    module(batch_size=1, val_fraction=0.03)  # one image
    with pytest.raises(ValueError, match=r"^two images or more are needed, got 1$"):
        ImagesDataModule(ArrayImages(PIXELS[:1]), batch_size=1)
    ImagesDataModule(ArrayImages(PIXELS[:2]), batch_size=2)
