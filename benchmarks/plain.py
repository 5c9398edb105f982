"""The reference: the papers' networks trained by the shortest loop that PyTorch's users would write."""

from __future__ import annotations

import sys
from multiprocessing.connection import Client
from time import perf_counter

import torch
from torch import nn
from torch.nn import functional as F


def conv(channels: int, size: int) -> tuple[nn.Module, nn.Module]:
    more = size.bit_length() - 4  # convolutions behind the first, down to 4×4
    down = [layer for _ in range(more) for layer in (nn.Conv2d(32, 32, 4, 2, 1), nn.ReLU())]
    up = [layer for _ in range(more) for layer in (nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.ReLU())]
    encoder = nn.Sequential(
        *(nn.Conv2d(channels, 32, 4, 2, 1), nn.ReLU(), *down, nn.Flatten()),
        *(nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 20)),
    )
    decoder = nn.Sequential(
        *(nn.Linear(10, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU()),
        *(nn.Unflatten(1, (32, 4, 4)), *up, nn.ConvTranspose2d(32, channels, 4, 2, 1)),
    )
    return encoder, decoder


def mlp(channels: int, size: int) -> tuple[nn.Module, nn.Module]:
    pixels = channels * size * size
    encoder = nn.Sequential(
        *(nn.Flatten(), nn.Linear(pixels, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU(), nn.Linear(1200, 20))
    )
    decoder = nn.Sequential(
        *(nn.Linear(10, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU()),
        *(nn.Linear(1200, pixels), nn.Unflatten(1, (channels, size, size))),
    )
    return encoder, decoder


NETWORKS = {"conv": conv, "mlp": mlp}


def images(channels: int = 1, size: int = 64) -> torch.Tensor:
    """Binary images about as white as dSprites, (2048, C, size, size)."""
    return (torch.rand(2048, channels, size, size) < 0.05).float()


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(address: str, model: str, channels: int, size: int, batch_size: int, device: str) -> None:
    encoder, decoder = (part.to(device) for part in NETWORKS[model](channels, size))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=5e-4)
    data = images(channels, size).to(device)
    with Client(address) as driver:
        while steps := driver.recv():
            synchronize()
            start = perf_counter()
            for _ in range(steps):
                batch = data[torch.randint(len(data), (batch_size,))]
                mean, log_variance = encoder(batch).chunk(2, dim=1)
                logits = decoder(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
                reconstruction = F.binary_cross_entropy_with_logits(logits, batch, reduction="sum")
                kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
                loss = (reconstruction + 4 * kl) / batch_size
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            synchronize()
            driver.send(perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
