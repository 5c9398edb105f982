"""Models of ours that are trained together, each with its own images, noise and objective.

Forward, objective, backward and Adam alone, without a trainer. On a GPU the step is compiled and captured as one graph,
with its products in bfloat16; posterior, KL and objective are in single precision everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from multiprocessing.connection import Client
from time import perf_counter

import torch
from plain import images, synchronize
from torch import Tensor, nn

from bvae.app.allocator import keep_freed_memory
from bvae.architectures import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from bvae.losses import Beta, Context, Posterior, Sample
from bvae.model import posterior_of
from bvae.stacked import Stacked

PARTS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "conv": (ConvEncoder, ConvDecoder),
    "mlp": (MLPEncoder, MLPDecoder),
}


def step_of(model: str, channels: int, size: int, batch_size: int, device: str, models: int) -> Callable[[], None]:
    """Make what takes a training step of every model."""
    gpu = device == "cuda"
    encoder, decoder = (
        Stacked([part(image_shape=(channels, size, size)) for _ in range(models)]).to(device) for part in PARTS[model]
    )
    losses = [Beta() for _ in range(models)]
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=5e-4, fused=True, capturable=gpu)
    data = images(channels, size).to(device)
    context = Context(torch.zeros((), dtype=torch.int64, device=device), len(data))

    def objective(batch: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            parameters = encoder(batch)
        posterior = posterior_of(parameters)
        latents = posterior.sample(noise)
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            logits = decoder(latents)
        logits = logits.float()
        values = []
        for s, loss in enumerate(losses):
            sample = Sample(batch[s], logits[s], Posterior(posterior.mean[s], posterior.log_variance[s]), latents[s])
            values.append(loss(sample, context)["loss"])
        return torch.stack(values).sum()  # each model has the gradients of its own alone

    compiled = torch.compile(objective, fullgraph=True) if gpu else objective

    def step() -> None:
        batch = data[torch.randint(len(data), (models, batch_size), device=device)]
        loss = compiled(batch, torch.randn(models, batch_size, 10, device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return captured(step) if gpu else step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Capture the step as a CUDA graph, after some that compile it and make the optimizer's state."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main(address: str, *what: str) -> None:
    model, channels, size, batch_size, device, models = what
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    step = step_of(model, int(channels), int(size), int(batch_size), device, int(models))
    with Client(address) as driver:
        while steps := driver.recv():
            synchronize()
            start = perf_counter()
            for _ in range(steps):
                step()
            synchronize()
            driver.send(perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
