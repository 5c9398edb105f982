"""What a run was made on and from: the machine, and the commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

_CODE = Path(__file__).parents[1]


def machine() -> str:
    """Name the processor, how many cores of it this process may use, and the GPUs."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # where an operating system has no such call
        cores = os.cpu_count() or 1
    parts = [f"{_processor()}, {cores} core{'s' if cores > 1 else ''}"]
    import torch  # here, as it takes seconds

    if torch.cuda.is_available():
        parts += [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return "; ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(names)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str:
    """Name the git commit of the code, with -dirty where files differ from it; empty where git doesn't track it."""
    if not _git("ls-files", "--error-unmatch", "runs/surroundings.py"):
        return ""
    return _git("describe", "--always", "--dirty", "--abbrev=10")


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=_CODE, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
