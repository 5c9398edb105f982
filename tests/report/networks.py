"""Networks of what a page can run, and their steps and numbers run by a few lines of PyTorch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bvae.losses import Gaussian
from bvae.model import VAE
from bvae.report.network import Program

SHAPE = (1, 4, 6)


def unpacked(found: Program) -> list[Tensor]:
    """Vectors as they are; matrices row by row: a scale, and integers from −2^(bits − 1) on in planes of bytes."""
    tensors = []
    for number, about in enumerate(found.tensors):
        rows, columns, start = about["rows"], about["columns"], about["start"]
        if not rows:
            tensors.append(torch.from_numpy(np.frombuffer(found.numbers, "<f4", columns, start).copy()))
            end = start + 4 * columns
        else:
            scales = np.frombuffer(found.numbers, "<f4", rows, start)
            planes = 2 if found.bits > 8 else 1
            of_bytes = np.frombuffer(found.numbers, np.uint8, planes * rows * columns, start + 4 * rows)
            whole = sum(plane.astype(int) << 8 * n for n, plane in enumerate(of_bytes.reshape(planes, rows, columns)))
            tensors.append(torch.from_numpy((whole - 2 ** (found.bits - 1)) * scales[:, None]).float())
            end = start + 4 * rows + planes * rows * columns
        following = found.tensors[number + 1 :]
        assert end == (following[0]["start"] if following else len(found.numbers))
    return tensors


def executed(found: Program, part: str, values: Tensor) -> Tensor:
    """Run the encoder's or the decoder's steps on a batch, flat in PyTorch's order."""
    tensors = unpacked(found)
    made = [values.flatten(1)]
    for step in getattr(found, part):
        x, *others = (made[n] for n in step["x"])
        w = None if step.get("w") is None else tensors[step["w"]]
        b = None if step.get("b") is None else tensors[step["b"]]
        given = step.get("given", [])
        match step["op"]:
            case "linear":
                y = F.linear(x, w, b)
            case "convolution":
                c, rows, columns = step["from"]
                k = w.view(len(w), *step["kernel"], -1).movedim(-1, 1)  # of each output channel
                how = {key: step[key] for key in ("stride", "padding", "dilation")}
                image = x.view(-1, c, rows, columns)
                if step["transposed"]:
                    more = [
                        size - ((before - 1) * s - 2 * p + d * (side - 1) + 1)
                        for size, before, s, p, d, side in zip(
                            step["to"][1:], (rows, columns), *how.values(), step["kernel"], strict=True
                        )
                    ]
                    y = F.conv_transpose2d(image, k.transpose(0, 1), b, output_padding=more, **how)
                else:
                    y = F.conv2d(image, k, b, **how)
                assert list(y.shape[1:]) == step["to"]
                y = y.flatten(1)
            case "scale":
                each = x.shape[1] // len(w)
                y = x * w.repeat_interleave(each) + b.repeat_interleave(each)
            case "add":
                y = x + others[0]
            case "same":
                y = x
            case "upsample":
                c, rows, columns = step["from"]
                times = [large // small for small, large in zip(step["from"][1:], step["to"][1:], strict=True)]
                y = (
                    x.view(-1, c, rows, columns)
                    .repeat_interleave(times[0], 2)
                    .repeat_interleave(times[1], 3)
                    .flatten(1)
                )
            case "elu":
                alpha, scale, inner = given
                y = scale * torch.where(x > 0, x, alpha * torch.expm1(x * inner))
            case "gelu":
                y = F.gelu(x, approximate=given[0])
            case "clamp":
                y = x.clamp(*given)
            case "leaky_relu" | "softplus":
                y = getattr(F, step["op"])(x, *given)
            case "relu" | "silu" | "tanh" | "sigmoid":
                assert given == []
                y = getattr(F, step["op"])(x)
        made.append(y)
    return made[-1]


def encoder(n: int, shape=SHAPE) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 2 * n))


class Both(nn.Module):
    """Two ways in, one out."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 24), nn.Linear(3, 24, bias=False)

    def forward(self, latents):
        return (self.one(latents) + self.two(latents).tanh()).view(-1, *SHAPE)


class Elsewhere(nn.Module):
    """A function of the linear layer's output."""

    def __init__(self, function) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(3, 24), function

    def forward(self, latents):
        return self.function(self.linear(latents)).reshape(-1, *SHAPE)


def norm(variance: float, affine: bool = True) -> nn.BatchNorm2d:
    found = nn.BatchNorm2d(2, eps=1e-5, affine=affine)
    found.running_mean = torch.tensor([0.3, -0.2])
    found.running_var = torch.tensor([variance, 2 * variance])
    if affine:
        with torch.no_grad():
            found.weight.copy_(torch.tensor([0.05, 0.5]))
            found.bias.copy_(torch.tensor([0.25, -0.5]))
    return found


def image(channels: int, rows: int, columns: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, channels * rows * columns), nn.Unflatten(1, (channels, rows, columns)))


DECODERS = {
    "linear": lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 24, bias=False), nn.Unflatten(1, SHAPE)),
    "two ways": Both,
    "convolution": lambda: nn.Sequential(image(2, 6, 14), nn.Conv2d(2, 1, (3, 5), (1, 2), (0, 1), bias=False)),
    "dilated": lambda: nn.Sequential(image(3, 6, 8), nn.Conv2d(3, 1, 3, dilation=(1, 2), padding=(0, 1))),
    "transposed": lambda: nn.Sequential(
        image(3, 2, 3), nn.ConvTranspose2d(3, 2, (2, 4), (2, 2), (0, 1)), nn.ConvTranspose2d(2, 1, 1)
    ),
    "transposed and padded": lambda: nn.Sequential(
        image(2, 2, 2), nn.ConvTranspose2d(2, 1, 3, (2, 3), 1, output_padding=(1, 2))
    ),
    "batch norm": lambda: nn.Sequential(image(2, 4, 6), norm(0.5), nn.Conv2d(2, 1, 1)),
    "batch norm of little variance": lambda: nn.Sequential(image(2, 4, 6), norm(1e-5), nn.Conv2d(2, 1, 1)),
    "batch norm without weights": lambda: nn.Sequential(image(2, 4, 6), norm(0.5, affine=False), nn.Conv2d(2, 1, 1)),
    "upsampled": lambda: nn.Sequential(image(2, 2, 2), nn.Upsample(scale_factor=(2, 3)), nn.Conv2d(2, 1, 1)),
    **{
        name: lambda function=function: Elsewhere(function)
        for name, function in {
            "relu": torch.relu,
            "leaky": lambda x: F.leaky_relu(x, 0.3),
            "elu": lambda x: F.elu(x, 0.7),
            "selu": F.selu,
            "silu": F.silu,
            "gelu": F.gelu,
            "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
            "softplus": lambda x: F.softplus(x, 3.0, 0.5),
            "clamp": lambda x: x.clamp(0.1, 0.4),
            "clamp below": lambda x: x.clamp(min=0.2),
            "clamp above": lambda x: x.clamp(max=0.2),
            "hardtanh": lambda x: F.hardtanh(x, 0.1, 0.3),
            "in place": lambda x: F.elu_(x.view(-1, 4, 6)).sigmoid_(),
            "copied": lambda x: x.clone().detach().unsqueeze(1).squeeze(1).float(),
        }.items()
    },
}


def runnable(shape, scale: float = 1.0) -> VAE:
    """A model of layers that the page has: its codes are the pixels times a number, its pictures the codes."""
    n = math.prod(shape)
    encoder, decoder = nn.Linear(n, 2 * n), nn.Linear(n, n)
    with torch.no_grad():
        encoder.weight.copy_(torch.cat((torch.eye(n) * scale, torch.zeros(n, n))))
        decoder.weight.copy_(torch.eye(n))
        for layer in (encoder, decoder):
            layer.bias.zero_()
    likelihood = Gaussian(bounded=False)
    return VAE(nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, shape)), likelihood).eval()
