"""Ctrl-C, where processes beside this one run a sweep's jobs: those under way end well, and no other begins.

Python's own answer to Ctrl-C would break the pool of processes, which then kills those at work.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from threading import Event, Thread
from types import FrameType

_asked = False


def hand_on() -> None:
    """From now on, hand the first Ctrl-C on to the processes that this one starts; a second one kills them.

    It stays pending there until somebody looks, see `asked`.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("Ctrl-C: the jobs under way end with this step, save and draw; once more kills them")
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGINT)

    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as lokys

    for tracker in (resource_tracker, lokys):
        tracker.ensure_running()  # which lets Ctrl-C through again
    signal.signal(signal.SIGINT, stop)
    Thread(target=Event().wait, daemon=True).start()  # gets what the main thread, and all that it starts, block
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def asked() -> bool:
    """Whether a sweep that is `hand_on`'s was interrupted: in the process that began it, and in those with its jobs."""
    global _asked
    _asked = _asked or (hasattr(signal, "sigpending") and signal.SIGINT in signal.sigpending())
    return _asked


def is_beside() -> bool:
    """Whether this process is one of a pool."""
    return multiprocessing.parent_process() is not None
