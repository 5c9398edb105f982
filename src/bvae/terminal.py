"""The terminal: what it is given, and what it doesn't take.

Whatever a program prints passes `shown`: by `say`, in a `console()`, in a `progress` bar, or in a log that a
`ShownFilter` filters. A name from a received file can therefore neither move the cursor nor turn into markup.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from itertools import chain, islice
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

_Block = TypeVar("_Block", bound=Sized)
# Control characters, line separators, lone surrogates, and the marks that change the direction of writing (Unicode's
# Bidi_Control).
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: object, keep: str = "") -> str:
    r"""Write a text so that a terminal shows it and obeys none of it: a control character becomes `\x1b`, say.

    Args:
        text: what to show.
        keep: control characters that stay, such as a line feed between lines of our own.
    """
    return _UNSHOWN.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], str(text))


def say(*lines: object) -> None:
    """Print each of these on a line of its own."""
    for line in lines:
        print(shown(line))


class _Terminal(Console):
    """A console that takes text as text: no markup, no escapes, no emoji's names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text, keep="\n"), **options)


def console(**options: Any) -> Console:
    """Open the terminal for tables and pictures of progress; the options are `rich.console.Console`'s."""
    return _Terminal(**options)


@contextmanager
def stage(text: str, quiet: bool = False) -> Iterator[None]:
    """Say what is being done: beside a spinner as long as it takes, or as a line where the output is no terminal."""
    terminal = console(quiet=quiet)
    if not terminal.is_terminal:
        terminal.print(f"{text} …", soft_wrap=True)
    with terminal.status(shown(text)):
        yield


def progress(blocks: Iterable[_Block], description: str, total: int, transient: bool = False) -> Iterator[_Block]:
    """Yield the blocks, with a progress bar on the terminal that counts their rows; a transient one goes away."""
    blocks = iter(blocks)
    first = list(islice(blocks, 1))  # what can't be read says so before a bar is drawn
    text = TextColumn("{task.description}", markup=False)
    with Progress(text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=transient) as bar:
        task = bar.add_task(shown(description), total=total)
        for block in chain(first, blocks):
            yield block
            bar.advance(task, len(block))


class LogFile(logging.FileHandler):
    """A log in a folder that may come from anybody: a link or a pipe in its place is refused, not followed."""

    def _open(self) -> Any:
        def opener(path: str, flags: int) -> int:
            descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "it is no regular file", path)
            return descriptor

        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=opener)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # it can't be opened
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging calls it so
        """Drop what can't be written, as on a full disk: the terminal has it."""


class ShownFilter(logging.Filter):
    """Makes each message of a log one line that a terminal can show, its trace aside."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = shown(record.getMessage()), None
        if record.exc_info:
            record.exc_text = shown(logging.Formatter().formatException(record.exc_info), keep="\n")
        return True


class _Lossy(FileIO):
    """A file descriptor that drops what can't be written: the terminal was closed, or a pipe's reader has ended."""

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


_formatwarning = warnings.formatwarning


def _shown_warning(*warning: Any, **more: Any) -> str:
    return shown(_formatwarning(*warning, **more), keep="\n")


def spare() -> None:
    """Let nothing that is printed from now on end a run: no letter that the output's encoding lacks, no lost terminal.

    A notebook's output is left as it is, and of a Windows console all but what it does with such letters.
    """
    warnings.formatwarning = _shown_warning
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
