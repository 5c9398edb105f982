"""Weights as integers of few bits and a scale for each row of them."""

from __future__ import annotations

import torch
from torch import Tensor

_GROUP = 2048  # columns that are rounded with regard to each other: the time goes by its square
_BLOCK = 128
_DAMPING = 1e-2  # of the inputs' mean square
_SCALES = torch.linspace(0.3, 1, 15)  # of the scale that reaches the largest weight, to choose from


def rounded(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a weight (rows, …) to integers of so many bits; returns them and the rows' scales (rows, 1, …)."""
    scale = _largest(weight.flatten(1), bits).view(-1, *(1,) * (weight.dim() - 1))
    return (weight / scale).round(), scale


def compensated(weight: Tensor, inputs: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round a matrix (rows, columns) so that its products with such inputs (N, columns) change little.

    One column after the other is rounded, and those behind it take up its error, as far as the inputs let them stand
    for it: GPTQ, Frantar et al. (2023), arXiv:2210.17323, Algorithm 1. Returns integers and scales as `rounded` does.
    """
    most = 2 ** (bits - 1) - 1
    candidates = _largest(weight, bits) * _SCALES.view(-1, 1, 1)
    errors = torch.stack([(_whole(weight, scale, most) * scale - weight).square().sum(dim=1) for scale in candidates])
    scale = candidates[errors.argmin(dim=0), torch.arange(len(weight))]
    groups = zip(weight.split(_GROUP, dim=1), inputs.split(_GROUP, dim=1), strict=True)
    return torch.cat([_group(columns.clone(), given, scale, most) for columns, given in groups], dim=1), scale


def _largest(weight: Tensor, bits: int) -> Tensor:
    """Return the scale of each row that its largest weight takes: (rows, 1)."""
    return weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / (2 ** (bits - 1) - 1)


def _whole(weight: Tensor, scale: Tensor, most: int) -> Tensor:
    return (weight / scale).round().clamp(-most, most)


def _group(weight: Tensor, inputs: Tensor, scale: Tensor, most: int) -> Tensor:
    squares = inputs.T @ inputs / len(inputs)
    squares.diagonal().add_(_DAMPING * squares.diagonal().mean() + 1e-9)
    # Row i: how the columns from i on make up for an error in column i.
    spread = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(squares)), upper=True)
    whole = torch.empty_like(weight)
    for start in range(0, weight.shape[1], _BLOCK):
        end = min(start + _BLOCK, weight.shape[1])
        columns, errors = weight[:, start:end].clone(), torch.empty_like(weight[:, start:end])
        for i in range(end - start):
            row = spread[start + i, start + i : end]
            column = columns[:, i : i + 1]
            whole[:, start + i : start + i + 1] = _whole(column, scale, most)
            errors[:, i : i + 1] = (column - whole[:, start + i : start + i + 1] * scale) / row[0]
            columns[:, i:] -= errors[:, i : i + 1] * row
        weight[:, end:] -= errors @ spread[start:end, end:]
    return whole
