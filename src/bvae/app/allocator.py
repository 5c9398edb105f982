"""Memory that a training step frees is kept for the next, in place of being handed back to the system each time."""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """On Linux, ask glibc's allocator to reuse large blocks; elsewhere, and under another allocator, nothing happens.

    By default it maps every large tensor anew, and the system clears each of its pages when it's first written.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes
        mallopt(_M_TOP_PAD, 256 << 20)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
