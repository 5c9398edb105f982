"""The codes of many images: what an encoder makes of them, and what a data module serves for it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from rich.progress import track
from torch import Tensor

from bvae.data.arrays import texts
from bvae.data.image_set import FactorGrid
from bvae.files import atomic_write
from bvae.losses import Posterior, kl_divergence
from bvae.metrics import Codes, check, check_codes
from bvae.metrics.arrays import is_continuous
from bvae.model import VAE, NotFinite, images_of
from bvae.received import check_regular
from bvae.terminal import console, shown

_MOST = 1 << 31  # bytes of an array
_READ = ("codes", "factors", "log_variances", "factor_names")  # arrays of an .npz


@torch.no_grad()
def encode(vae: VAE, datamodule: LightningDataModule, every_image: bool = False) -> Codes:
    """Encode the images that the data module's `predict_dataloader` serves.

    With `every_image`, those of its `test_dataloader`, which takes longer and shows a progress bar. Raises NotFinite
    where the encoder gives NaN or infinity.
    """
    batches = datamodule.test_dataloader() if every_image else datamodule.predict_dataloader()
    quiet = not (every_image and console().is_terminal)
    codes: list[Tensor] | None = None
    n = 0
    served = serve(batches, datamodule, vae.device)
    for images, factors in track(served, "Encoding every image", total=len(batches), transient=True, disable=quiet):
        posterior = vae.encode(images)
        found = (*posterior, factors)
        if codes is None:
            # Room for all at once: small results kept from each batch would lie between the large blocks that the
            # next one could have used again, and the process would grow by gigabytes.
            most = len(batches) * len(images)
            codes = [torch.empty((most, part.shape[1]), dtype=part.dtype) for part in found]
        if n + len(images) > len(codes[0]):  # somebody's own loader, whose first batch isn't the largest
            codes = [torch.cat([kept, kept.new_empty(part.shape)]) for kept, part in zip(codes, found, strict=True)]
        for kept, part in zip(codes, found, strict=True):
            kept[n : n + len(images)] = part
        n += len(images)
    if codes is None:
        raise ValueError(f"{type(datamodule).__name__} serves no images")
    mean, log_variance, all_factors = (kept[:n] for kept in codes)
    if not mean.isfinite().all():
        raise NotFinite("the encoder's means are NaN or infinite: the model has diverged")
    return Codes(mean.float(), log_variance.float(), all_factors)


@torch.no_grad()
def elbo_terms(vae: VAE, datamodule: LightningDataModule) -> dict[str, float]:
    """Compute the reconstruction and the KL in nats, and the number of images n that they are means over.

    The images are those of the data module's `predict_dataloader`, each decoded from one sample of its posterior.
    """
    generator = torch.Generator(vae.device).manual_seed(0)  # the same noise each time, and the global one left alone
    sums, n = {"reconstruction": 0.0, "kl": 0.0}, 0
    for images, _ in serve(datamodule.predict_dataloader(), datamodule, vae.device):
        posterior = vae.encode(images)
        noise = torch.randn(posterior.mean.shape, generator=generator, device=vae.device)
        logits = vae.decode(posterior.sample(noise))
        sums["reconstruction"] -= float(vae.likelihood.log_prob(images, logits).sum())
        sums["kl"] += float(kl_divergence(posterior).sum())
        n += len(images)
    return {name: total / n for name, total in sums.items()} | {"n": n}


def sample(datamodule: LightningDataModule, n: int, device: torch.device) -> tuple[Tensor, np.ndarray]:
    """Take the first n images that the data module's `predict_dataloader` serves, or all if fewer.

    Returns images (n, C, H, W) and their factors (n, K), K being 0 without.
    """
    batches, found = [], 0
    for batch in serve(datamodule.predict_dataloader(), datamodule, device):
        batches.append(batch)
        found += len(batch[0])
        if found >= n:
            break
    images, factors = (torch.cat(parts)[:n] for parts in zip(*batches, strict=True))
    return images, factors.cpu().numpy()


def variances_at_quoted_picture(vae: VAE, datamodule: LightningDataModule) -> np.ndarray | None:
    """Encode the image whose variances papers quote, see `Factors.quoted`: (D,), None where the data has none."""
    images: Any = getattr(datamodule, "image_set", None)
    factors = getattr(images, "factors", None)
    if not isinstance(factors, FactorGrid) or not factors.quoted:
        return None
    position = np.ravel_multi_index(factors.quoted, factors.sizes)
    travelled, _ = images[np.array([position])]
    with torch.no_grad():
        return vae.encode(images.decode(travelled.to(vae.device))).log_variance[0].exp().cpu().numpy()


def serve(batches: Iterable, datamodule: LightningDataModule, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Hand batches over as a trainer would: images (B, C, H, W), and factors (B, K), K being 0 where there are none."""
    for batch in batches:
        batch = datamodule.on_after_batch_transfer(datamodule.transfer_batch_to_device(batch, device, 0), 0)
        images = images_of(batch)
        factors = images.new_empty(len(images), 0) if batch is images or len(batch) < 2 else batch[1]
        yield images, factors.reshape(len(images), -1)  # labels (B,) are one factor


def write_codes(codes: Codes, factor_names: Sequence[str], path: Path, most: int = 10_000) -> None:
    """Write codes for `read_codes`, with the mean KL of each unit: at most `most` of the rows, drawn with seed 0.

    Every k-th row of a grid would leave values out: of dSprites every 74th has one of two positions only.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(codes.mean))[:most])
    arrays = {"codes": codes.mean[rows], "factors": codes.factors[rows]}
    if codes.log_variance is not None:
        arrays["log_variances"] = codes.log_variance[rows]
        arrays["kl"] = kl_divergence(Posterior(codes.mean, codes.log_variance)).mean(dim=0)
    plain = {name: array.numpy() for name, array in arrays.items()}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, factor_names=np.array(factor_names), **plain)  # type: ignore[arg-type]


def read_codes(path: Path) -> tuple[Codes, list[str] | None]:
    """Read an `.npz`: codes (N, D), factors (N, K) and, where there are any, log-variances (N, D) and factors' names.

    Raises ValueError for another file, for one without the arrays `codes` and `factors`, and for what can't be scored.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder where an .npz is needed; a run's is its codes.npz")
    check_regular(path)
    try:
        with np.load(path) as table:  # an .npy's array can't be opened, which Python says in two ways
            held = list(table)
            sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in table.zip.infolist()}
            if large := [name for name in _READ if sizes.get(name, 0) > _MOST]:
                raise ValueError(f"{large[0]!r} has {sizes[large[0]]:,} bytes, more than is read")
            arrays = {name: table[name] for name in _READ if name in held}
    except (ValueError, AttributeError, TypeError, OSError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} can't be read as an .npz of plain arrays, which np.savez({path.stem!r}, codes=…, factors=…) makes"
        ) from error
    missing = {"codes", "factors"} - set(arrays)
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(sorted(missing))}, it holds {', '.join(held) or 'nothing'}")
    codes, factors = check_known(arrays["codes"], arrays["factors"])
    log_variances = None
    if "log_variances" in arrays:
        log_variances = check_codes(arrays["log_variances"])
        if log_variances.shape != codes.shape:
            raise ValueError(f"{path}: codes have the shape {codes.shape}, their log_variances {log_variances.shape}")
    if "factor_names" not in arrays:
        return codes_of(codes, factors, log_variances), None
    try:
        names = texts(arrays["factor_names"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return codes_of(codes, factors, log_variances), [shown(name) for name in names]


def check_known(codes: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check codes and factors as `check` does, but take NaN among the factors for a label that isn't known."""
    factors = np.asarray(factors)
    if factors.dtype.kind != "f":
        return check(codes, factors)
    unknown = np.isnan(factors)
    codes, known = check(codes, np.where(unknown, 0, factors))
    return codes, np.where(unknown, np.nan, known)


def codes_of(codes: np.ndarray, factors: np.ndarray, log_variances: np.ndarray | None = None) -> Codes:
    """Gather arrays: codes (N, D), factors (N, K), integers or floats, and perhaps log-variances (N, D)."""
    log_variance = None if log_variances is None else torch.from_numpy(log_variances)
    kept = factors if is_continuous(factors) else factors.astype(np.int64)  # torch has not every integer of NumPy's
    return Codes(torch.from_numpy(codes), log_variance, torch.from_numpy(kept))
