"""Ctrl-C and SIGTERM, where processes beside this one run a sweep's jobs: those end well, and no other begins.

Python's own answer to either would break the pool of processes, which then kills those at work.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from threading import Event, Thread
from types import FrameType

_SAID = {
    signal.SIGINT: "Ctrl-C: the jobs under way end with this step, save and draw; once more kills them",
    signal.SIGTERM: "SIGTERM: the jobs under way save a checkpoint and end",
}
_asked: signal.Signals | None = None


def hand_on() -> None:
    """From now on, hand the first Ctrl-C or SIGTERM on to the processes that this one starts; a second one kills them.

    It stays pending there until somebody looks, see `asked`.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        global _asked
        _asked = signal.Signals(signum)
        signal.signal(signum, signal.default_int_handler if _asked == signal.SIGINT else signal.SIG_DFL)
        print(_SAID[_asked])
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, signum)

    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as lokys

    for tracker in (resource_tracker, lokys):
        tracker.ensure_running()  # which lets these signals through again
    for signum in _SAID:
        signal.signal(signum, stop)
    Thread(target=Event().wait, daemon=True).start()  # gets what the main thread, and all that it starts, block
    signal.pthread_sigmask(signal.SIG_BLOCK, set(_SAID))


def asked() -> signal.Signals | None:
    """What interrupted a sweep that is `hand_on`'s: in the process that began it, and in those with its jobs."""
    global _asked
    if _asked is None and hasattr(signal, "sigpending"):
        _asked = next((signum for signum in _SAID if signum in signal.sigpending()), None)
    return _asked


def is_beside() -> bool:
    """Whether this process is one of a pool."""
    return multiprocessing.parent_process() is not None
