"""What a terminal is given: every control character written out, progress by rows, and no output that ends a run."""

from __future__ import annotations

import io
import logging
import os
import stat
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bvae import terminal
from bvae.terminal import LogFile, ShownFilter, console, interruptible, progress, say, shown, spare, stage


def test_what_is_written_out_is_what_unicode_calls_control_separator_surrogate_or_direction():
    bidirectional = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # Bidi_Control
    for number in range(0x3000):
        letter = chr(number)
        obeyed = unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in bidirectional
        assert (shown(letter) != letter) == obeyed, hex(number)
    for letter in "\ud800\udbff\udc00\udfff":
        assert shown(letter) == f"\\u{ord(letter):04x}"
    assert shown("a\x1b[1m\u2028\x9b") == r"a\x1b[1m\u2028\x9b"
    assert shown("a\n\tb", keep="\n") == "a\n\\tb"
    assert shown(5) == "5"


def test_each_thing_said_is_one_line(capsys):
    say("one\ntwo", 3, "\x1b[2J")
    assert capsys.readouterr().out == "one\\ntwo\n3\n\\x1b[2J\n"


def test_a_console_takes_text_as_text(capsys):
    console(width=60).print("[red]x[/] :smile: 5 \x1b[2J", "two\nlines")
    assert capsys.readouterr().out.splitlines() == ["[red]x[/] :smile: 5 \\x1b[2J two", "lines"]
    console(width=5).print("one two")
    assert capsys.readouterr().out.split() == ["one", "two"]
    assert console(width=5).width == 5


def test_progress_counts_rows_and_changes_no_block(monkeypatch):
    seen = []

    class Bar(terminal.Progress):
        def add_task(self, description, **options):
            seen.append((description, options["total"]))
            return super().add_task(description, **options)

        def advance(self, task, advance=1):
            seen.append(advance)

        def __init__(self, *columns, **options):
            seen.append(options["transient"])
            assert columns[0].markup is False
            assert columns[0].text_format == "{task.description}"
            super().__init__(*columns, **options)

    monkeypatch.setattr(terminal, "Progress", Bar)
    blocks = [[1, 2], [3], [4, 5, 6]]
    assert list(progress(iter(blocks), "Reading \x1b", 6, transient=True)) == blocks
    assert seen == [True, ("Reading \\x1b", 6), 2, 1, 3]
    seen.clear()
    assert list(progress([], "None", 0)) == []
    assert seen == [False, ("None", 0)]
    seen.clear()

    taken = []
    next(progress((taken.append(n) or [n] for n in range(3)), "Reading", 3))
    assert taken == [0]  # one ahead of the bar and no more
    seen.clear()

    def broken():
        raise ValueError("no file")
        yield

    with pytest.raises(ValueError, match="no file"):
        list(progress(broken(), "Reading", 6))
    assert seen == []  # said before a bar is drawn


def record(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    return logging.LogRecord("x", logging.ERROR, "x.py", 1, message, arguments, info)


def test_a_log_has_one_line_for_a_message_and_its_trace_below():
    plain = record("%s of %d\n", "a\x1b", 5)
    assert ShownFilter().filter(plain) is True
    assert logging.Formatter().format(plain) == r"a\x1b of 5\n"
    failed = record("100%", error=ValueError("b\x1b\n[red]"))
    assert ShownFilter().filter(failed) is True
    assert logging.Formatter().format(failed) == "100%\nValueError: b\\x1b\n[red]"


def test_a_log_on_a_full_disk_is_no_trace_on_the_terminal(tmp_path, capsys):
    log = LogFile(str(tmp_path / "x.log"), encoding="utf-8")
    log.stream.close()
    log.stream = open("/dev/full", "w")  # noqa: SIM115
    log.emit(record("β"))
    with pytest.raises(OSError, match="No space left"):
        log.close()
    assert capsys.readouterr().err == ""


def test_a_log_is_a_file_of_its_own(tmp_path):
    before = os.umask(0)
    handler = LogFile(str(tmp_path / "x.log"), encoding="utf-8")
    os.umask(before)
    handler.emit(record("β"))
    handler.close()
    again = LogFile(str(tmp_path / "x.log"), encoding="utf-8")
    again.emit(record("γ"))
    again.close()
    assert (tmp_path / "x.log").read_text(encoding="utf-8") == "β\nγ\n"  # goes on with what is there
    assert stat.S_IMODE((tmp_path / "x.log").stat().st_mode) == 0o666
    (tmp_path / "link").symlink_to("x.log")
    with pytest.raises(OSError, match="symbolic link"):
        LogFile(str(tmp_path / "link"))
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # else a pipe without a reader can't be opened
    with pytest.raises(OSError, match="it is no regular file"):
        LogFile(str(tmp_path / "pipe"))
    os.close(end)
    (tmp_path / "latin").touch()
    latin = LogFile(str(tmp_path / "latin"), encoding="latin-1", errors="replace")
    latin.emit(record("é\u2192"))
    latin.close()
    assert (tmp_path / "latin").read_bytes() == b"\xe9?\n"


@pytest.fixture
def own(monkeypatch) -> Iterator[Callable[[str, object], None]]:
    """Puts a stream in the place of a standard one, from within a test: before it, pytest puts its own there."""
    held = []  # as Python itself holds them

    def put(name: str, stream: object) -> None:
        held.append(stream)
        monkeypatch.setattr(sys, name, stream)

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    yield put
    monkeypatch.undo()


def ascii_file(path: Path, **options) -> io.TextIOWrapper:
    """A stream whose encoding lacks most letters."""
    return io.TextIOWrapper(path.open("wb"), "ascii", **options)


def test_no_letter_ends_a_run(own, tmp_path):
    held = ascii_file(tmp_path / "out")  # as Hydra's log holds it
    own("stdout", held)
    own("stderr", ascii_file(tmp_path / "err", line_buffering=True))
    held.write("before ")
    spare()
    print("β")
    print("γ", file=sys.stderr)
    assert (tmp_path / "err").read_bytes() == b"?\n"  # which is line by line
    assert (tmp_path / "out").read_bytes() == b"before "
    sys.stdout.flush()
    held.write("δ")
    held.flush()
    assert (tmp_path / "out").read_bytes() == b"before ?\n?"
    warning = warnings.formatwarning("a\x1b\nb", UserWarning, "x.py", 1, "")
    assert warning == "x.py:1: UserWarning: a\\x1b\nb\n"


def test_what_is_written_at_once_stays_so(own, tmp_path):
    own("stdout", io.TextIOWrapper((tmp_path / "out").open("wb", buffering=0), "ascii", write_through=True))
    own("stderr", io.StringIO())  # a notebook's
    notebooks = sys.stderr
    spare()
    assert sys.stderr is notebooks
    print("no line yet, β", end="")
    assert (tmp_path / "out").read_bytes() == b"no line yet, ?"


def test_a_pipe_that_nobody_reads_takes_what_is_printed(own):
    reader, writer = os.pipe()
    own("stdout", io.TextIOWrapper(os.fdopen(writer, "wb"), "utf-8", line_buffering=True))
    own("stderr", io.StringIO())
    spare()
    os.close(reader)
    print("nobody reads this")
    sys.stdout.flush()
    assert os.fstat(writer)  # isn't closed with the stream


def test_ctrl_c_ends_a_program_with_one_line_and_status_130(capsys):
    with pytest.raises(SystemExit) as caught, interruptible():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == "Interrupted\n"
    with interruptible():
        pass


def test_a_stage_is_a_line_where_the_output_is_no_terminal(capsys):
    with stage("Writing [the] report"):
        pass
    with stage("Scoring", quiet=True):
        pass
    assert capsys.readouterr().out == "Writing [the] report …\n"
