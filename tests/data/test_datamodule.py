from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.checks import OtherImages
from bvae.data import ArrayImages, DSpritesDataModule, ImagesDataModule, render
from bvae.data.batches import Batches
from bvae.data.dsprites.image_set import DSprites, unpack
from bvae.losses import ELBO
from bvae.model import WrongImages
from bvae.training import Training


@pytest.fixture
def data(cache_dir) -> DSpritesDataModule:
    data = DSpritesDataModule(cache_dir=str(cache_dir), eval_images=700)
    data.setup()
    return data


def served(loader: DataLoader) -> np.ndarray:
    """The images of an epoch, by their positions in the archive."""
    return np.concatenate([loader.dataset.indices_of(number) for number in loader.sampler])


def test_a_batch_is_images_and_the_factors_they_were_drawn_from(data):
    batch = next(iter(data.train_dataloader()))
    assert batch[0].dtype == torch.uint8
    assert batch[0].shape == (64, 512)
    images, factors = data.on_after_batch_transfer(batch, 0)
    assert images.shape == (64, 1, 64, 64)
    assert images.dtype == torch.float32
    assert factors.shape == (64, 5)
    assert np.array_equal(images[:, 0].numpy(), render(*factors.numpy().T))


def test_images_on_the_device_make_the_same_batches(data, cache_dir):
    resident = DSpritesDataModule(cache_dir=str(cache_dir), eval_images=700, on_device=True)
    resident.setup()
    for ours, theirs in zip(resident.train_dataloader(), data.train_dataloader(), strict=True):
        assert ours[0].shape == (64,)  # positions, in place of images
        found, expected = resident.on_after_batch_transfer(ours, 0), data.on_after_batch_transfer(theirs, 0)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        break


def test_unpacking_is_numpys():
    packed = torch.randint(0, 256, (3, 512), dtype=torch.uint8)
    assert np.array_equal(unpack(packed).numpy().ravel(), np.unpackbits(packed.numpy().ravel()))
    assert unpack(packed.to("meta")).device.type == "meta"  # on the device that the batch is on


def test_an_epoch_is_every_image_once_in_an_order_of_seed_and_epoch(data):
    loader = data.train_dataloader()
    assert len(loader) == 11_520
    first = served(loader)
    assert np.array_equal(np.sort(first), np.arange(737_280))
    assert np.array_equal(first, np.random.default_rng((0, 0)).permutation(737_280))  # as it has always been
    assert np.array_equal(first, served(data.train_dataloader()))
    loader.sampler.taken = lambda: 11_520
    second = served(loader)
    assert np.array_equal(np.sort(second), np.arange(737_280))
    assert (first != second).mean() > 0.99
    other = Batches(None, np.arange(737_280), 64, seed=1)
    assert (first != np.concatenate([other.indices_of(n) for n in range(11_520)])).mean() > 0.99


def test_images_held_out_are_not_trained_on(cache_dir):
    data = DSpritesDataModule(cache_dir=str(cache_dir), val_fraction=0.1, batch_size=100)
    data.setup()
    train, val = served(data.train_dataloader()), served(data.val_dataloader())
    assert len(val) == 73_728
    assert np.array_equal(np.sort(np.concatenate((train, val))), np.arange(737_280))
    assert len(data.val_dataloader()) == 738  # the last one is short
    assert DSpritesDataModule(cache_dir=str(cache_dir)).val_fraction == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_images_held_out_are_a_tenth_of_those_for_evaluation_too(cache_dir, seed):
    data = DSpritesDataModule(cache_dir=str(cache_dir), val_fraction=0.1, seed=seed)
    data.setup()
    assert np.isin(data._eval_indices, data._val_indices).mean() == pytest.approx(0.1, abs=0.01)


def test_a_training_goes_on_with_as_many_images_as_before():
    before, after = (ImagesDataModule(ArrayImages(np.zeros((n, 8, 8), np.uint8)), batch_size=4) for n in (40, 41))
    before.load_state_dict(before.state_dict())
    before.load_state_dict({})  # of an earlier version
    with pytest.raises(OtherImages, match="began with 40 images and now there are 41: "):
        after.load_state_dict(before.state_dict())


def test_evaluation_images_are_the_same_every_time(data):
    first, second = (torch.cat([factors for _, factors in data.predict_dataloader()]) for _ in range(2))
    assert torch.equal(first, second)
    assert len(first) == 700
    assert all(len(first[:, k].unique()) == size for k, size in enumerate((3, 6, 40, 32, 32)))


def test_a_few_images_are_had_without_a_trainer(cache_dir):
    data = DSpritesDataModule(cache_dir=str(cache_dir), eval_images=20)
    images = data.images(3)
    assert images.shape == (3, 1, 64, 64)
    batch = data.on_after_batch_transfer(next(iter(data.predict_dataloader())), 0)
    assert torch.equal(images, batch[0][:3])
    with pytest.raises(ValueError, match=r"n must be 1 to data\.eval_images=20, got 21"):
        data.images(21)


def test_a_trainer_predicts_and_tests(data):
    vae = Training(ConvEncoder(3), ConvDecoder(3), ELBO())
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, limit_test_batches=1)
    predicted = trainer.predict(vae, data)
    assert torch.cat([mean for mean, _ in predicted]).shape == (700, 3)
    torch.testing.assert_close(predicted[0].mean[:9], vae.model.encode(data.images(9)).mean, rtol=1e-4, atol=1e-5)
    (tested,) = trainer.test(vae, data, verbose=False)
    assert tested["test/loss"] == pytest.approx(tested["test/reconstruction"] + tested["test/kl"], rel=1e-5)
    packed, _ = next(iter(data.predict_dataloader()))
    with pytest.raises(WrongImages, match=r"must be a float tensor .* got torch.uint8 \(500, 512\); .* images\(n\)"):
        vae.model.encode(packed)


def test_a_batch_of_64_costs_under_a_millisecond_of_cpu(data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine count as CPU time too
    try:
        batches = iter(data.train_dataloader())
        next(batches)
        start = time.process_time()
        for _ in range(200):
            data.on_after_batch_transfer(next(batches), 0)
        assert (time.process_time() - start) / 200 < 1e-3
    finally:
        torch.set_num_threads(threads)


def test_workers_map_the_file_themselves(data):
    assert len(pickle.dumps(data.image_set)) < 1000
    again = pickle.loads(pickle.dumps(data.image_set))
    assert isinstance(again, DSprites)
    assert torch.equal(again[np.arange(5)][0], data.image_set[np.arange(5)][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "web"}, "must be one of render, file, download, got 'web'"),
        ({"source": "file"}, "source=file with a path, got 'file' and None"),
        ({"path": "x.npz"}, "path goes with source=file"),
        ({"batch_size": 0}, "batch_size must be an integer of 1 or more, got 0"),
        ({"batch_size": 6.4}, "batch_size must be an integer"),
        ({"batch_size": True}, "batch_size must be an integer"),
        ({"val_fraction": 1.0}, "val_fraction must be 0 or more and under 1, got 1.0"),
        ({"val_fraction": 0.99999999}, "holds out 737,280 of 737,280 images; hold out one or more, leave one or more"),
        ({"val_fraction": 1e-9}, "holds out 0 of 737,280 images"),
        ({"val_fraction": "half"}, "data.val_fraction must be a number, got 'half'"),
        ({"val_fraction": None}, "data.val_fraction must be a number, got None"),
        ({"eval_images": 1}, "eval_images must be an integer of 2 or more"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        DSpritesDataModule(**arguments)
