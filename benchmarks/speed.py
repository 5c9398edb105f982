"""Speed side by side, in one run: matrix products, a plain PyTorch loop, and train.py as people run it.

    make bench

Each is a process of its own, and they take turns by a few steps, so that a slow minute of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import torch
from plain import NETWORKS, images, synchronize
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from bvae.data import DSpritesDataModule

HERE = Path(__file__).parent
ROOT = HERE.parent
# Networks and images, channels × size: dSprites', and in colour.
DEFAULT = ("conv:1x64", "mlp:1x64", "conv:3x64", "conv:3x128")


def gflop(model: str, channels: int, size: int) -> float:
    """Count the multiplications and additions of a training step for one image: forward and twice that backward."""
    encoder, decoder = NETWORKS[model](channels, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(encoder(torch.zeros(1, channels, size, size))[:, :10])
    return 3 * counter.get_total_flops() / 1e9


def gflops(gpu: bool) -> float:
    """The rate of matrix products in GFLOP/s: of a CPU in single precision, of a GPU in bfloat16."""
    size, products = (8192, 20) if gpu else (1024, 4)
    a, b = torch.randn(2, size, size, **({"device": "cuda", "dtype": torch.bfloat16} if gpu else {}))
    synchronize()
    start = perf_counter()
    for _ in range(products):
        a @ b
    synchronize()
    return products * 2 * size**3 / (perf_counter() - start) / 1e9


class Worker:
    """A training in a process of its own that takes steps when it is asked to.

    Args:
        command: makes the process's command from the address to connect to.
        folder: where it runs.
    """

    def __init__(self, command: Callable[[str], list[str]], folder: str) -> None:
        address = os.path.join(tempfile.mkdtemp(), "socket")
        paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "WANDB_MODE": "offline"}
        with Listener(address) as listener, ThreadPoolExecutor(1) as waiting:
            start = perf_counter()
            self._process = subprocess.Popen(command(address), cwd=folder, env=environment, stdout=subprocess.DEVNULL)
            driver = waiting.submit(listener.accept)
            while not driver.done():
                if self._process.poll() is not None:
                    Client(address).close()  # so that nobody waits for it
                    sys.exit(f"this ended before its first step: {shlex.join(self._process.args)}")
                sleep(0.05)
            self._driver: Connection = driver.result()
        self.steps(1)
        self.first_step = perf_counter() - start  # seconds from the command

    def steps(self, n: int) -> float:
        """Seconds that n steps take."""
        self._driver.send(n)
        return self._driver.recv()

    def close(self) -> float:
        """End the process; returns its largest resident memory in GB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        self._driver.send(0)
        self._process.wait()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1e6


def plain(model: str, channels: int, size: int, batch_size: int, gpu: bool) -> Callable[[str], list[str]]:
    what = [model, str(channels), str(size), str(batch_size), "cuda" if gpu else "cpu"]
    return lambda address: [sys.executable, str(HERE / "plain.py"), address, *what]


def ours(
    model: str, channels: int, size: int, batch_size: int, arguments: argparse.Namespace, folder: str
) -> Callable[[str], list[str]]:
    overrides = [f"model={model}", "loss=beta", f"data.batch_size={batch_size}", f"trainer={arguments.trainer}"]
    overrides += [f"data.cache_dir={arguments.cache_dir}", *arguments.overrides]
    if (channels, size) != (1, 64):
        path = Path(folder, "images.npy")
        np.save(path, images(channels, size).mul(255).byte().numpy())
        overrides += ["data=arrays", f"data.path={path}", "loss/likelihood=bernoulli"]
    pace = ["+callbacks.pace._target_=pace.Pace", "data.eval_images=500", "metrics=none"]
    return lambda address: [
        sys.executable,
        str(ROOT / "train.py"),
        *overrides,
        *pace,
        f"+callbacks.pace.address={address}",
    ]


def together(
    model: str, channels: int, size: int, batch_size: int, gpu: bool, models: int
) -> Callable[[str], list[str]]:
    what = [model, str(channels), str(size), str(batch_size), "cuda" if gpu else "cpu", str(models)]
    return lambda address: [sys.executable, str(HERE / "together.py"), address, *what]


def peer(library: str, python: str, model: str, batch_size: int) -> Callable[[str], list[str]]:
    """The library's trainer, with the Python of an environment that has it."""
    return lambda address: [python, str(HERE / "peers.py"), library, address, model, str(batch_size)]


def race(
    model: str, channels: int, size: int, batch_size: int, arguments: argparse.Namespace, peers: dict[str, str]
) -> list[list[str]]:
    """Rows of the table for one network, kind of images and batch size."""
    work = gflop(model, channels, size)
    what = f"{model}, {channels}×{size}×{size}, batch {batch_size}"
    gpu = arguments.trainer == "gpu"
    steps = 500 if gpu else max(256 // batch_size, 1) * 4
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            "plain loop": Worker(plain(model, channels, size, batch_size, gpu), folder),
            "train.py": Worker(ours(model, channels, size, batch_size, arguments, folder), folder),
            **{name: Worker(peer(name, python, model, batch_size), folder) for name, python in peers.items()},
        }
        models = dict.fromkeys(workers, 1)  # whose steps count, each a step
        for number in arguments.together:
            name = f"{number} together"
            models[name] = number
            workers[name] = Worker(together(model, channels, size, batch_size, gpu, number), folder)
        rates: dict[str, list[float]] = {name: [] for name in workers}
        limits = []
        for _ in track(range(arguments.rounds), what, transient=True):
            limits.append(gflops(gpu))
            for name, worker in workers.items():
                n = max(steps // models[name], 1)
                rates[name].append(n * models[name] / worker.steps(n))
        rows = []
        for name, worker in workers.items():
            ratios = [ours / base for ours, base in zip(rates[name], rates["plain loop"], strict=True)]
            shares = [rate * batch_size * work / limit for rate, limit in zip(rates[name], limits, strict=True)]
            middle, low, high = spread(rates[name])
            memory = worker.close()
            rows.append(
                [
                    f"{what}, {name}",
                    f"{middle:.1f} ({low:.1f}–{high:.1f})",
                    f"{middle * batch_size:,.0f}",
                    f"{statistics.median(ratios):.2f}",
                    f"{statistics.median(shares):.0%} of {statistics.median(limits):.0f} GFLOP/s",
                    f"{memory:.2f}",
                    f"{worker.first_step:.1f}",
                ]
            )
    return rows


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return middle, low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=DEFAULT, help="network:channels×size, such as conv:3x128")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--trainer", default="default", choices=["default", "gpu"], help="train.py's trainer=")
    parser.add_argument("--overrides", nargs="+", default=[], help="more of train.py's overrides")
    parser.add_argument("--together", nargs="+", type=int, default=[], metavar="S", help="models trained as one too")
    parser.add_argument("--cache-dir", default=str(ROOT / "data"))
    parser.add_argument("--peers", nargs="*", default=[], metavar="LIBRARY=PYTHON", help="see `make bench-peers`")
    arguments = parser.parse_args()
    DSpritesDataModule(cache_dir=arguments.cache_dir).prepare_data()  # so that the first step is with a warm cache
    peers = dict(peer.split("=", 1) for peer in arguments.peers)
    columns = ("", "steps/s (quartiles)", "images/s", "to plain", "of the limit", "memory (GB)", "first step (s)")
    device = torch.cuda.get_device_name() if arguments.trainer == "gpu" else f"{torch.get_num_threads()} threads"
    table = Table(*columns, title=f"Training steps, {device}, torch {torch.__version__}")
    for name in arguments.models:
        model, _, shape = name.partition(":")
        channels, size = map(int, (shape or "1x64").split("x"))
        for batch_size in arguments.batch_sizes:
            for row in race(model, channels, size, batch_size, arguments, peers):
                table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
