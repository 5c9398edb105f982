"""Ctrl-C and SIGTERM, where a sweep's jobs run beside each other: those under way end well, and no other begins.

In processes, Python's own answer to either would break the pool, which then kills those at work. In threads, none of
the jobs would get it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from types import FrameType

from bvae.terminal import say

_SAID = {
    signal.SIGINT: "Ctrl-C: the jobs under way end with this step, save and draw; once more kills them",
    signal.SIGTERM: "SIGTERM: the jobs under way save a checkpoint and end",
}
_asked: signal.Signals | None = None


def _remember(signum: int, frame: FrameType | None = None) -> None:
    """Take a first signal; a second one ends the program."""
    global _asked
    _asked = signal.Signals(signum)
    signal.signal(signum, signal.default_int_handler if _asked == signal.SIGINT else signal.SIG_DFL)
    say(_SAID[_asked])


@contextmanager
def remembered() -> Iterator[None]:
    """Within it, the first Ctrl-C or SIGTERM is for the jobs in this process's threads, see `asked`."""
    before = {signum: signal.signal(signum, _remember) for signum in _SAID}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def hand_on() -> None:
    """From now on, hand the first Ctrl-C or SIGTERM on to the processes that this one starts; a second one kills them.

    It stays pending there until somebody looks, see `asked`.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        _remember(signum)
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


@contextmanager
def preemptible() -> Iterator[None]:
    """Within it, what a scheduler or a closed terminal sends ends the program as while it trains, with status 75.

    Signals that somebody else handles, or that are ignored, stay theirs.
    """
    from bvae.callbacks.interrupt import HANDLED, PREEMPTED  # late, as it brings torch

    def end(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(PREEMPTED)

    known = set(HANDLED) - {signal.SIGINT} if threading.current_thread() is threading.main_thread() else ()
    ours = [signum for signum in known if signal.getsignal(signum) == signal.SIG_DFL]
    for signum in ours:
        signal.signal(signum, end)
    try:
        yield
    finally:
        for signum in ours:
            signal.signal(signum, signal.SIG_DFL)


def asked() -> signal.Signals | None:
    """What interrupted a sweep: in the process that began it, and in those with its jobs."""
    global _asked
    if _asked is None and hasattr(signal, "sigpending"):
        _asked = next((signum for signum in _SAID if signum in signal.sigpending()), None)
    return _asked


def is_beside() -> bool:
    """Whether the job at hand is one beside others: in a process of a pool, or in a thread."""
    return multiprocessing.parent_process() is not None or threading.current_thread() is not threading.main_thread()
