"""The page's own code for a network computes what PyTorch does, run by Node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
import torch
from networks import DECODERS, SHAPE, encoder, executed
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.losses import Bernoulli, Gaussian
from bvae.model import VAE
from bvae.report.network import TOLERANCE, Program, program

NODE = shutil.which("node")
RUN = """
const found = JSON.parse(require("fs").readFileSync(0, "utf8")).map(({program, parts}) => {
  const bytes = Uint8Array.from(Buffer.from(program.numbers, "base64"));
  const tensors = unpack(program.tensors, program.bits, bytes);
  return parts.map(([part, inputs]) => inputs.map((x) => [...run(program[part], tensors, Float32Array.from(x))]));
});
console.log(JSON.stringify(found));
"""


def by_node(*asked: tuple[Program, dict[str, torch.Tensor]]) -> list[list[np.ndarray]]:
    """What the page's code makes of inputs (B, n) of a program's parts."""
    if NODE is None:
        pytest.skip("needs node: apt install nodejs")
    given = [
        {
            "program": vars(found) | {"numbers": base64.b64encode(found.numbers).decode()},
            "parts": [(part, values.flatten(1).tolist()) for part, values in parts.items()],
        }
        for found, parts in asked
    ]
    source = files("bvae.report").joinpath("network.js").read_text(encoding="utf-8") + RUN
    job = subprocess.run([NODE, "-e", source], input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert job.returncode == 0, job.stderr
    return [[np.array(values) for values in parts] for parts in json.loads(job.stdout)]


def test_the_page_computes_what_pytorch_does():
    torch.manual_seed(0)
    asked = {}
    strided = nn.Sequential(nn.Conv2d(1, 3, (2, 3), (2, 1), (1, 0)), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(36, 6))
    for name, made in DECODERS.items():
        enc = strided if name == "linear" else encoder(3)
        images, latents = torch.rand(3, *SHAPE), 3 * torch.randn(3, 3)
        found = program(VAE(enc, made(), Gaussian()).eval(), images, 3)
        asked[name] = found, {"encoder": images, "decoder": latents}
    for (name, (found, parts)), results in zip(asked.items(), by_node(*asked.values()), strict=True):
        for (part, values), computed in zip(parts.items(), results, strict=True):
            wanted = executed(found, part, values).numpy()
            assert wanted.std() > 0.01
            np.testing.assert_allclose(computed, wanted, atol=2e-6, rtol=1e-5, err_msg=f"{name}, {part}")


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 48, 64), (1, 24, 16)])
def test_the_page_runs_conv_at_every_size(shape):
    """On a picture whose corners and edges differ, so that rows and columns can't be mistaken."""
    torch.manual_seed(0)
    vae = VAE(ConvEncoder(3, image_shape=shape), ConvDecoder(3, image_shape=shape), Bernoulli()).eval()
    images, latents = torch.rand(2, *shape), 3 * torch.randn(2, 3)
    images[:, :, : shape[1] // 3], images[:, :, :, : shape[2] // 4] = 0, 1
    found = program(vae, images, 3)
    assert next(step["from"] for step in found.encoder if step["op"] == "convolution") == list(shape)
    ((codes, pictures),) = by_node((found, {"encoder": images, "decoder": latents}))
    np.testing.assert_allclose(codes, executed(found, "encoder", images).numpy(), atol=2e-6, rtol=1e-4)
    with torch.no_grad():
        wanted = vae.pictures(latents)
    assert wanted.shape[1:] == shape
    assert abs(pictures.reshape(wanted.shape) - wanted.numpy()).max() <= TOLERANCE


def test_the_page_reads_numbers_of_any_number_of_bits():
    scale = np.array([0.5, 2.0], "<f4")
    asked, wanted = [], []
    for bits in (8, 10, 16):
        whole = np.array([[0, 1, 3], [2 ** (bits - 1), 2**bits - 1, 5]])  # half is taken off
        planes = [whole & 255] + ([whole >> 8] if bits > 8 else [])
        numbers = np.array([7.25], "<f4").tobytes() + scale.tobytes()
        numbers += b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
        tensors = [{"rows": 0, "columns": 1, "start": 0}, {"rows": 2, "columns": 3, "start": 4}]
        steps = [{"op": "linear", "x": [0], "w": 1, "b": None}]
        asked.append((Program(steps, steps, tensors, numbers, bits, 0.0), {"encoder": torch.eye(3)}))
        wanted.append((whole - 2 ** (bits - 1)) * scale[:, None])
    for (columns,), matrix in zip(by_node(*asked), wanted, strict=True):
        assert pytest.approx(matrix) == columns.T


def test_the_pages_operations_have_their_known_values():
    cases = [
        # ½ log(1 + e^2x)
        ({"op": "softplus", "given": [2.0, 20.0]}, [-1.0, 0.0, 11.0], [0.0634640, 0.3465736, 11.0]),
        ({"op": "elu", "given": [2.0, 3.0, 0.5]}, [1.0, -2.0], [3.0, 3 * 2 * (np.exp(-1) - 1)]),
        ({"op": "clamp", "given": [None, 1.0]}, [-9.0, 2.0], [-9.0, 1.0]),
        ({"op": "clamp", "given": [-1.0, None]}, [-9.0, 2.0], [-1.0, 2.0]),
        ({"op": "leaky_relu", "given": [0.25]}, [-4.0, 4.0], [-1.0, 4.0]),
        ({"op": "gelu", "given": ["none"]}, [1.0, -1.0], [0.8413447, -0.1586553]),  # x Φ(x)
        ({"op": "silu", "given": []}, [2.0, -2.0], [1.7615942, -0.2384058]),  # x / (1 + e^−x)
        ({"op": "relu"}, [-1.0, 2.0], [0.0, 2.0]),
        ({"op": "same"}, [-1.0, 2.0], [-1.0, 2.0]),
        ({"op": "upsample", "from": [1, 1, 2], "to": [1, 2, 6]}, [1.0, 2.0], 2 * [1, 1, 1, 2, 2, 2]),
    ]
    asked = [(Program([{"x": [0], **step}], [], [], b"", 8, 0.0), torch.tensor([x])) for step, x, _ in cases]
    found = by_node(*((made, {"encoder": values}) for made, values in asked))
    for (step, _, y), ((values,),) in zip(cases, found, strict=True):
        assert values == pytest.approx(y, abs=1e-6), step
