"""The terminal, or whatever the programs print to: what it doesn't take is lost, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any


class _Lossy(FileIO):
    """A file descriptor that drops what can't be written: the terminal was closed, or a pipe's reader has ended."""

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def spare() -> None:
    """Let nothing that is printed from now on end a run: no letter that the output's encoding lacks, no lost terminal.

    A notebook's output is left as it is, and of a Windows console all but what it does with such letters.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # for whoever holds it already, as Hydra's log may
        buffer = getattr(stream, "buffer", None)
        if type(getattr(buffer, "raw", buffer)) is FileIO:
            stream.flush()
            lossy = _Lossy(stream.fileno(), "w", closefd=False)
            buffer = lossy if stream.write_through else BufferedWriter(lossy)
            options = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
            setattr(sys, name, TextIOWrapper(buffer, stream.encoding, "replace", **options))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the program with one line and status 130, where nothing else takes it."""
    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        sys.exit(130)
