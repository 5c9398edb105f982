"""What a run waits for beside its training steps: the data, the codes, the pictures, the scores but DCI's minutes.

make bench
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bvae.app.allocator import keep_freed_memory
from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.data import DSpritesDataModule
from bvae.data.dsprites.render import NUM_IMAGES, render_all
from bvae.evaluation.codes import encode, sample
from bvae.metrics import (
    SAP,
    ActiveUnits,
    BetaVAEScore,
    CodesMetric,
    Explicitness,
    FactorVAEScore,
    InterventionalRobustness,
    Modularity,
    MutualInformationGap,
    TotalCorrelation,
)
from bvae.model import VAE

ROOT = Path(__file__).parents[1]


def seconds(task: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Quartiles of the time that a task takes, after one time that doesn't count."""
    times = []
    for _ in range(rounds + 1):
        start = perf_counter()
        task()
        times.append(perf_counter() - start)
    low, middle, high = statistics.quantiles(times[1:], n=4)
    return low, middle, high


def stages(data: DSpritesDataModule) -> dict[str, tuple[int, Callable[[], object]]]:
    """Tasks by name, each with the number of images that it works on."""
    vae = VAE(ConvEncoder(), ConvDecoder()).eval()
    batches = iter(data.train_dataloader())
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(size, size=10_000) for size in (3, 6, 40, 32, 32)], axis=1)
    noise = rng.normal(size=(10_000, 10))
    factors, codes = torch.from_numpy(factors), torch.from_numpy(noise)
    codes[:, :5] = factors + 0.3 * codes[:, :5]
    scores = (
        *(MutualInformationGap, SAP, Modularity, Explicitness, InterventionalRobustness),
        *(BetaVAEScore, FactorVAEScore, TotalCorrelation, ActiveUnits),
    )

    def score(metric: type[CodesMetric]) -> None:
        scored = metric()
        scored.update(codes, factors)
        scored.compute()

    return {
        "render, without the file": (NUM_IMAGES, lambda: [None for _ in render_all()]),
        "a batch of 64, loaded and unpacked": (64, lambda: data.on_after_batch_transfer(next(batches), 0)),
        "codes of the 10,000 images for evaluation, conv": (10_000, lambda: encode(vae, data)),
        "reconstructions of 16 images": (16, lambda: vae.reconstruct(sample(data, 16, vae.device)[0])),
        **{f"{metric.__name__} of 10,000 codes": (10_000, partial(score, metric)) for metric in scores},
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache-dir", default=str(ROOT / "data"))
    arguments = parser.parse_args()
    keep_freed_memory()
    data = DSpritesDataModule(cache_dir=arguments.cache_dir)
    data.prepare_data()
    data.setup()
    table = Table("", "seconds (quartiles)", "images/s", title=f"{torch.get_num_threads()} threads")
    for name, (images, task) in track(stages(data).items(), "Stages", transient=True):
        low, middle, high = seconds(task, arguments.rounds)
        table.add_row(name, f"{middle:.3g} ({low:.3g}–{high:.3g})", f"{images / middle:,.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
