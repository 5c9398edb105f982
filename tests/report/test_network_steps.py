"""A network's steps and numbers, run by a few lines of PyTorch: they compute what the model does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bvae.losses import Gaussian
from bvae.model import VAE
from bvae.report.network import Program, Refused, program

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


def checked(vae: VAE, images: Tensor, n: int) -> Program:
    """Translate a model, whose steps must make its pictures up to the error that they state."""
    vae.eval()
    found = program(vae, images, n)
    latents = torch.randn(32, n, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, reconstructed = vae.pictures(latents).flatten(1), vae.reconstruct(images[:32]).flatten(1)
        parameters = executed(found, "encoder", images[:32])
        errors = (
            (executed(found, "decoder", latents) - wanted).abs().max(),
            (executed(found, "decoder", parameters[:, :n]) - reconstructed).abs().max(),
        )
    assert parameters.shape == (len(images[:32]), 2 * n)
    assert float(max(errors)) == pytest.approx(found.error, abs=2e-5)
    assert found.error <= 0.005 or found.bits == 16
    assert wanted.std() > 0.004
    return found


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


@pytest.mark.parametrize("name", DECODERS)
def test_steps_and_numbers_make_the_models_pictures(name):
    torch.manual_seed(0)
    decoder = DECODERS[name]()
    checked(VAE(encoder(3), decoder, Gaussian()), torch.rand(40, *SHAPE), 3)


def test_a_batch_norm_counts_its_eps():
    torch.manual_seed(0)
    vae = VAE(encoder(3), DECODERS["batch norm of little variance"](), Gaussian(bounded=False)).eval()
    found = program(vae, torch.rand(4, *SHAPE), 3)
    (step,) = [step for step in found.decoder if step["op"] == "scale"]
    tensors = unpacked(found)
    scale = [0.05 / math.sqrt(1e-5 + 1e-5), 0.5 / math.sqrt(2e-5 + 1e-5)]  # weight / √(variance + eps)
    assert tensors[step["w"]].tolist() == pytest.approx(scale)
    assert tensors[step["b"]].tolist() == pytest.approx([0.25 - 0.3 * scale[0], -0.5 + 0.2 * scale[1]])


@pytest.mark.parametrize("bounded", [True, False])
def test_the_decoder_ends_with_the_likelihoods_mean(bounded):
    torch.manual_seed(0)
    found = checked(VAE(encoder(3), Both(), Gaussian(bounded=bounded)), torch.rand(5, *SHAPE), 3)
    assert [step["op"] for step in found.decoder][-2:] == ["sigmoid" if bounded else "clamp", "same"]


def passed(first: float, second: float, n: int = 2) -> VAE:
    """A model of two units: the pixels times the numbers, added up, and the code as the picture."""
    enc, dec = nn.Linear(n, 2 * n, bias=False), nn.Linear(n, n, bias=False)
    with torch.no_grad():
        enc.weight.zero_()[:n] = torch.tensor([[first, second], [0.0, 1.0]])
        dec.weight.copy_(torch.eye(n))
    layers = nn.Sequential(dec, nn.Unflatten(1, (1, 1, n)))
    return VAE(nn.Sequential(nn.Flatten(), enc), layers, Gaussian(bounded=False)).eval()


def test_rounding_is_judged_by_what_is_encoded_too():
    images = torch.tensor([[0.0, 0.9], [0.0, 0.5]]).view(2, 1, 1, 2)
    # A row of 100 and 1 is rounded to multiples of 100 / (2^(bits − 1) − 1), which takes 14 bits till 1 is near 1.
    off = {
        bits: 0.9 * abs(round(1 / step) * step - 1)
        for bits in (8, 10, 12, 14)
        for step in [100 / (2 ** (bits - 1) - 1)]
    }
    assert min(off[8], off[10], off[12]) > 0.005 > off[14]
    found = program(passed(100.0, 1.0), images, 2)
    assert (found.bits, found.error) == (14, pytest.approx(off[14], abs=1e-6))
    assert program(passed(1.0, 1.0), images, 2).bits == 8  # where nothing is lost
    dark = program(passed(100.0, 1.0), images * 0.0, 2)
    assert (dark.bits, dark.error) == (8, 0)
    late = torch.cat((torch.zeros(32, 1, 1, 2), images))
    assert program(passed(100.0, 1.0), late, 2).bits == 8  # by 32 pictures
    hopeless = program(passed(10_000.0, 1.0), images, 2)
    step = 10_000 / (2**15 - 1)
    assert (hopeless.bits, hopeless.error) == (16, pytest.approx(0.9 * abs(round(1 / step) * step - 1), abs=1e-5))


def test_rounding_is_judged_by_draws_from_the_prior():
    images = torch.zeros(2, 1, 1, 2)
    vae = passed(1.0, 1.0)
    with torch.no_grad():
        vae.decoder[0].weight.copy_(torch.tensor([[1.0, 0.0301], [0.0, 1.0]]))
    found = program(vae, images, 2)  # which encodes all images at the origin, where nothing shows
    latents = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))

    def error(bits):
        step = 1 / (2 ** (bits - 1) - 1)
        first = (latents[:, 0] + 0.0301 * latents[:, 1]).clamp(0, 1)
        return (first - (latents[:, 0] + round(0.0301 / step) * step * latents[:, 1]).clamp(0, 1)).abs().max().item()

    bits = next(bits for bits in (8, 10, 12, 14, 16) if error(bits) <= 0.005)
    assert bits > 8 or error(8) <= 0.005
    assert (found.bits, found.error) == (bits, pytest.approx(error(bits), abs=1e-6))


def test_numbers_are_laid_out_one_behind_the_other():
    found = program(passed(1.0, 1.0), torch.rand(2, 1, 1, 2), 2)
    # Four rows of two weights and two of two: a scale of four bytes a row, and a byte a weight.
    assert found.tensors == [
        {"rows": 4, "columns": 2, "start": 0},
        {"rows": 2, "columns": 2, "start": 4 * 4 + 8},
    ]
    assert len(found.numbers) == 24 + 2 * 4 + 4
    scales = np.frombuffer(found.numbers, "<f4", 2, 24)
    assert scales == pytest.approx(1 / 127)
    assert list(found.numbers[32:]) == [128 + 127, 128, 128, 128 + 127]
    assert found.encoder == [
        {"op": "linear", "x": [0], "w": 0, "b": None},
        {"op": "same", "x": [1]},
    ]


class Unnamed(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.one, self.two, self.how = nn.Linear(3, 24), nn.Linear(3, 1), forward

    def forward(self, latents):
        return self.how(self.one, self.two, latents).reshape(-1, *SHAPE)


REFUSED = {
    "groups=2": nn.Sequential(image(2, 4, 6), nn.Conv2d(2, 2, 1, groups=2), nn.Conv2d(2, 1, 1)),
    "the batch's own statistics": nn.Sequential(image(2, 4, 6), nn.BatchNorm2d(2, track_running_stats=False)),
    "a weight that isn't transposed": Unnamed(lambda one, two, z: torch.mm(torch.mm(z, one.weight.t()), one.weight)),
    "it computes its weights from others": Unnamed(lambda one, two, z: F.linear(z, one.weight * 2)),
    "it computes sin, which the page can't": Unnamed(lambda one, two, z: one(z).sin()),
    "numbers that don't come of its input": Unnamed(lambda one, two, z: one(z) + one.bias),
    "alpha=2|shapes": Unnamed(lambda one, two, z: torch.add(one(z), one(z), alpha=2)),
    r"shapes \[24\] and \[1\]": Unnamed(lambda one, two, z: one(z) + two(z)),
    "sizes": nn.Sequential(image(1, 3, 4), nn.Upsample((4, 6))),
    "it can't be traced": Unnamed(lambda one, two, z: one(z).view(5, 7)),
    "it computes _to_copy": Unnamed(lambda one, two, z: one(z).long().float()),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_the_page_cant_run_is_refused_with_its_reason(why):
    vae = VAE(encoder(3), REFUSED[why], Gaussian(bounded=False)).eval()
    with pytest.raises(Refused, match=why):
        program(vae, torch.rand(4, *SHAPE), 3)
