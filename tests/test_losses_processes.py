"""The statistics of a batch are those of all processes' images: two processes on the CPU, forked by the test."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import distributed

from bvae.losses import DIP1, DIP2, BetaTC, Context, Control, Factor, Loss, Paced, Posterior, Sample
from bvae.losses.processes import gathered

PARTS = (slice(0, 3), slice(3, 5))  # each process's images: an epoch's last batch needn't part evenly
ALL = slice(0, 5)


def losses() -> tuple[Loss, ...]:
    return DIP1(), DIP2(), BetaTC(), BetaTC(stratified=True)


def penalty_and_gradient(loss: Loss, images: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """What the loss charges beside reconstruction and KL, and its gradient to means and log-variances (2, B, 2)."""
    generator = torch.Generator().manual_seed(0)
    both, noise = torch.randn(2, 5, 2, generator=generator)[:, images], torch.randn(5, 2, generator=generator)[images]
    both.requires_grad_()
    posterior = Posterior(both[0], both[1])
    pixels = torch.zeros(len(noise), 1, 8, 8)
    sample = Sample(pixels, pixels, posterior, posterior.sample(noise))
    terms = loss(sample, Context(torch.tensor(0), dataset_size=50))
    penalty = terms["loss"] - terms["reconstruction"] - terms["kl"]
    return penalty.detach(), torch.autograd.grad(penalty, both)[0]


def permuted_latents(rank: int) -> torch.Tensor:
    """What a discriminator takes for permuted latents where the first process's are all 0 and the second's all 1."""
    loss, seen = Factor(latent_dim=2, discriminator_width=2, discriminator_depth=1), []
    log_ratio = loss.log_ratio
    loss.log_ratio = lambda latents, weights: seen.append(latents) or log_ratio(latents, weights)
    torch.manual_seed(rank)
    latents, images = torch.full((400, 2), float(rank)), torch.zeros(400, 1, 1, 1)
    loss(Sample(images, images, Posterior(latents, latents), latents), Context(torch.tensor(0), dataset_size=800))
    assert torch.equal(seen[0], latents)
    assert torch.equal(seen[1], latents)
    return seen[2]


def work(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = [penalty_and_gradient(loss, PARTS[rank]) for loss in losses()]
    control = Control(target_start=0.1, k_i=1.0)  # each process has a KL of its own
    penalty_and_gradient(control, PARTS[rank])
    paced = Paced()  # likewise, and images of its own
    pictures = torch.rand(3 + rank, 1, 2, 2, generator=torch.Generator().manual_seed(rank))
    latents = torch.full((len(pictures), 2), 1.0 + rank)
    paced(Sample(pictures, pictures, Posterior(latents, latents), latents), Context(torch.tensor(0), dataset_size=9))
    rows = gathered(torch.full((rank + 1, 2, 2), float(rank)))
    torch.save((found, control.integral, paced.state_dict(), rows, permuted_latents(rank)), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_penalties_and_the_gradients_of_one_with_the_doubled_batch(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    (first, integral, paced, rows, permuted), (second, other_integral, other_paced, _, others) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)
    )
    assert rows[:, 0, 0].tolist() == [0, 1, 1]
    assert integral == other_integral > 0
    assert paced == other_paced
    assert paced["scale"] > 0
    for found in (permuted, others):  # half of a unit's 800 values are 0 and half are 1, of which 400 are drawn
        assert found.shape == (400, 2)
        assert found.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.1)
        assert not torch.equal(found[:, 0], found[:, 1])
    for loss, one, other in zip(losses(), first, second, strict=True):
        penalty, gradient = penalty_and_gradient(loss, ALL)
        assert torch.allclose(one[0], penalty, atol=1e-4)
        assert torch.allclose(other[0], penalty, atol=1e-4)
        averaged = torch.cat((one[1], other[1]), dim=1) / 2  # as DDP averages
        assert torch.allclose(averaged, gradient, rtol=1e-4, atol=1e-5)
