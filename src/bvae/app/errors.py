"""How the programs end: a person's mistake in one sentence, a failed job with its trace in its own log."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bvae.app import interrupts
from bvae.terminal import ShownFilter, interruptible, shown, spare

# The configuration's folder: in the package, to which a checkout links it unless the file system has no links.
_PACKAGED = Path(__file__).parents[1] / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "conf"

# As the user set it; `run_app` sets it for Hydra.
_WANTS_TRACE = os.environ.get("HYDRA_FULL_ERROR") == "1"

# Choices that come with `pip install 'bvae[extra]'`.
_EXTRAS = {
    "hydra/sweeper=optuna": "optuna",
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=ray": "ray",
}


class InputError(Exception):
    """An override or a file can't be used; the message is one sentence for the person who gave it."""


class JobError(Exception):
    """A job of a sweep failed and has said so in its log."""


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn whatever goes wrong while a run is set up into an InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(sentence(error)) from error


def in_sweep() -> bool:
    """Whether Hydra runs this as a job of a sweep."""
    from hydra.core.hydra_config import HydraConfig  # once Hydra runs, so that mistakes before it answer at once
    from hydra.types import RunMode

    return HydraConfig.get().mode == RunMode.MULTIRUN


def shared_memory_is_full(error: Exception) -> bool:
    """Whether this is what PyTorch says of a worker that has no room to hand a batch over."""
    return isinstance(error, RuntimeError) and re.search("shared memory|Bus error", str(error)) is not None


@contextmanager
def job(log: logging.Logger) -> Iterator[None]:
    """Log what ends the job, a mistake in a sentence and anything else with its trace.

    Then the program ends with status 1 or, in a sweep, JobError lets the other jobs run.
    """
    spare()  # the processes that a launcher starts come here first
    for handler in logging.getLogger().handlers:
        handler.addFilter(ShownFilter())
    if in_sweep() and interrupts.asked() is not None:
        raise JobError
    try:
        yield
        return
    except InputError as error:
        log.error(error, exc_info=_WANTS_TRACE)
    except KeyboardInterrupt:
        log.error("Interrupted")
        sys.exit(130)
    except SystemExit:
        if not interrupts.is_beside():  # else the pool would kill the other jobs
            raise
    except Exception as error:
        if shared_memory_is_full(error):
            log.error(
                "the shared memory, /dev/shm, is too full for the batches of data.num_workers: free some, give more to "
                "a container by --shm-size=1g, or use data.num_workers=0"
            )
        else:
            log.exception("The job failed")
    if in_sweep():
        raise JobError
    sys.exit(1)


def run_app(
    main: Callable[[], None],
    prepare: Callable[[list[str]], list[str]] = list,
    finish: Callable[[], None] = lambda: None,
) -> None:
    """Run a `@hydra.main` function; its mistakes end in one sentence and status 1.

    With HYDRA_FULL_ERROR=1 they come with their trace, as Hydra's users know it.

    Args:
        main: the function.
        prepare: changes the command's arguments before Hydra reads them.
        finish: called after it, however it ended.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors to us in place of printing them
    argparse.ArgumentParser.error = _refuse  # type: ignore[method-assign,assignment]  # Hydra's parser would print its usage
    spare()
    try:
        with interruptible():
            arguments = normalized([_expanded(argument) for argument in sys.argv[1:]], CONF)
            for name in (*arguments, os.getcwd()):
                _check_utf8(name)
            from bvae.app.targets import find_own  # late, as it takes its sentences from here

            find_own(arguments)
            sys.argv[1:] = prepare(arguments)
            try:
                main()
            finally:
                finish()
    except JobError:
        if (signum := interrupts.asked()) is not None:
            from bvae.callbacks.interrupt import PREEMPTED  # late, as it brings torch

            sys.exit(130 if signum == signal.SIGINT else PREEMPTED)
        sys.exit("At least one job of the sweep failed: its error stands above and in its folder's log.")
    except Exception as raised:
        # A log that can't be written.
        error = raised.__cause__ if str(raised).startswith("Unable to configure handler") else raised
        if _WANTS_TRACE or not (isinstance(error, (InputError, OSError)) or _is_hydras(raised)):
            raise
        sys.exit(f"{os.path.basename(sys.argv[0])}: {shown(sentence(error))}")


def _expanded(argument: str) -> str:
    """An override with the home folder for ~ where a path begins, which a shell leaves as it is after the "="."""
    key, equals, value = argument.partition("=")
    return key + equals + re.sub(r"""(^|[,\["'])(~[^/,\]"']*)(?=[/,\]"']|$)""", _home, value)


def _home(found: re.Match) -> str:
    return found[1] + os.path.expanduser(found[2])


def _check_utf8(name: str) -> None:
    """Raise InputError for a path that no record of a run, log or page could name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{name} isn't UTF-8, in which runs are recorded: rename the file or folder, or give a link to it"
        ) from None


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise InputError(f"{message}; flags stand first, and keys have no dashes and a value, as data.batch_size=32")


def normalized(arguments: Sequence[str], conf: Path) -> list[str]:
    """Normalize the arguments of a command for Hydra: -m first, and `group=none` for a group that is null or false.

    Args:
        arguments: the command's, without the program's name.
        conf: the folder of the configuration, whose folders are its groups.
    """
    groups = "|".join(path.relative_to(conf).as_posix() for path in conf.rglob("*") if path.is_dir())
    override = re.compile(rf"(~|--|)((?:{groups})(?:@[^=]*)?)(?:=(.*))?")
    words = sorted(arguments, key=lambda word: word not in ("-m", "--multirun"))
    for index, word in enumerate(words):
        if re.match(r"\+{1,2}(run|sweep|init_from)=", word):  # keys that the configuration has
            words[index] = word = word.lstrip("+")
        match = override.fullmatch(word)
        if match and match[1] == "--":  # Hydra would take --experiment for its --experimental-rerun
            raise InputError(f"{word}: a group has no dashes, type {match[2]}=…")
        if match and match[1] == "~":
            words[index] = f"{match[2]}=none"
        elif match and match[3] is not None:
            choices = ("none" if c.lower() in ("null", "false", "none") else c for c in match[3].split(","))
            words[index] = f"{match[2]}={','.join(choices)}"
    return words


def _is_hydras(error: Exception) -> bool:
    """Whether Hydra raised it, be it one of Python's own."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return any(
        name.startswith(("hydra.", "omegaconf.")) for name in (type(error).__module__, frame.f_globals["__name__"])
    )


def sentence(error: Any) -> str:
    """Say what went wrong, in one line."""
    cause = error.__cause__
    kind = type(error).__name__
    text = " ".join(str(error).split())
    said, marker, message = str(error).partition("raised while resolving interpolation: ")
    if marker and said.strip() == "InputError":
        return message.splitlines()[0]
    if kind == "MissingConfigException" and getattr(error, "options", None):
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if f"{group}={choice}" in _EXTRAS:
            return f"{group}={choice} needs more packages: pip install 'bvae[{_EXTRAS[f'{group}={choice}']}]'"
        return f"there is no {group}={choice}; choose one of {', '.join(error.options)}"
    if kind == "InstantiationException" and cause is not None:
        where = next((line for line in str(error).splitlines() if line.startswith("full_key: ")), "")
        where = where.removeprefix("full_key: ")
        if found := re.search(r"not supported between instances of '(str|NoneType|list)'", str(cause)):
            what = {"str": "text", "NoneType": "null", "list": "a list"}[found[1]]
            return f"{where}: a key that must be a number is {what}"
        return f"{where}: {sentence(cause)}".removeprefix(": ")
    for missing in (error, cause):
        if isinstance(missing, OmegaConfBaseException) and missing.full_key and "is not in struct" in str(missing):
            return _no_key(missing)
    if found := re.match("Ambiguous value for argument '([^=]*)=(.*)'\n", str(error)):
        quoted = as_typed(found[1], found[2])
        return (
            f"{found[1]}={found[2]} has several values: type -m to run each, or quote one with commas twice: {quoted}"
        )
    if found := re.match(r"Multiple values for \S+\. .* 'override (\S+): (\S+)'", text) or re.match(
        r"force-add of config groups is not supported: '\+\+(\S+)=(\S+)'", text
    ):
        return f"type {found[1]}={found[2]}, without a +"
    if found := re.match("Could not override '(.*)'. No match in the defaults list", text):
        return f"there is no group {found[1]} to choose in: see --help"
    if kind == "OverrideParseException" and "=" not in error.override:
        return f"an override has the form key=value, without spaces around the =, got {error.override}"
    if kind == "OverrideParseException":
        quoted = as_typed(*error.override.strip("\"'").split("=", 1))
        return f"{error.override} can't be read; text with special characters is quoted twice: {quoted}"
    if kind == "MissingMandatoryValue":
        return f"{error.full_key} must be given: {error.full_key}=…"
    if text.startswith("Cannot instantiate config of type"):
        return "a group got a value in place of a choice: choose as in model/encoder=mlp"
    if text.startswith("Error merging override") and cause is not None:
        return f"{text}: {str(cause).splitlines()[0]}"
    return text or kind


def program(name: str = "train") -> str:
    """Name the command that runs a program of ours: `python train.py`, or `bvae-train` where that was run."""
    run = Path(sys.argv[0])
    return f"python {name}.py" if run.suffix == ".py" or not run.name.startswith("bvae-") else f"bvae-{name}"


def override(key: str, value: str | Path) -> str:
    """Write the override of a key with a text for Hydra, to which commas, "=" and quotes have a meaning."""
    text = str(value)
    # Hydra reads no letters beyond ASCII without quotes, and some words as no text.
    if re.fullmatch(r"(?!(null|true|false|nan|inf)$)[a-z./][\w./-]*", text, re.ASCII | re.IGNORECASE):
        return f"{key}={text}"
    # Of backslashes, only those before a quote have one.
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + found[2].replace('"', '\\"'), text)
    return f'{key}="{escaped}"'


def as_typed(key: str, value: str | Path) -> str:
    """Quote such an override for a shell too, whose quotes Hydra doesn't see."""
    return shlex.quote(override(key, value))


def _no_key(error: OmegaConfBaseException) -> str:
    """Say that the configuration has no such key, and which one was perhaps meant."""
    parent, _, key = error.full_key.rpartition(".")
    tree = OmegaConf.to_container(error.parent_node) if OmegaConf.is_config(error.parent_node) else {}
    keys = sorted(str(k) for k in tree if k != "_target_")
    deeper = [path for path in _paths(tree) if path.endswith(f".{key}") and not path.startswith("hydra.")]
    near = deeper or get_close_matches(key, keys, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{parent or 'the configuration'} has no key {key!r}, its keys are {', '.join(keys) or 'none'}{hint}"


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every key of a tree, with those that it lies in: optimizer.lr."""
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")
