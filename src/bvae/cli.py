"""How the command-line programs end: a person's mistake in one sentence, a failed job with its trace in its own log."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from omegaconf.errors import OmegaConfBaseException

from bvae import interrupts
from bvae.terminal import interruptible, spare

# As the user set it; `run_app` sets it for Hydra.
_WANTS_TRACE = os.environ.get("HYDRA_FULL_ERROR") == "1"


# What is chosen by a word and comes with `pip install -e '.[extra]'`.
_EXTRAS = {
    "hydra/sweeper=optuna": "optuna",
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/launcher=ray": "ray",
}


class InputError(Exception):
    """Something that was typed or read can't be used; the message is one sentence for the person who typed it."""


class JobError(Exception):
    """A job of a sweep failed and has said so in its log."""


@contextmanager
def input_errors() -> Iterator[None]:
    """Whatever goes wrong while a run is set up becomes an InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(sentence(error)) from error


@contextmanager
def job(log: logging.Logger, in_sweep: bool) -> Iterator[None]:
    """Log what ends the job, a mistake in a sentence and anything else with its trace.

    Then the program ends with status 1 or, in a sweep, JobError lets the other jobs run.
    """
    spare()  # the processes that a launcher starts come here first
    if in_sweep and interrupts.asked():
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
    except Exception:
        log.exception("The job failed")
    if in_sweep:
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
        prepare: what is typed before Hydra reads it.
        finish: what comes after it, however it ended.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors to us in place of printing them
    spare()
    try:
        with interruptible():
            sys.argv[1:] = prepare([_expanded(argument) for argument in sys.argv[1:]])
            try:
                main()
            finally:
                finish()
    except JobError:
        if interrupts.asked():
            sys.exit(130)
        sys.exit("At least one job of the sweep failed: its error stands above and in its folder's log.")
    except Exception as error:
        if _WANTS_TRACE or not (isinstance(error, (InputError, OSError)) or _is_hydras(error)):
            raise
        sys.exit(f"{os.path.basename(sys.argv[0])}: {sentence(error)}")


def _expanded(argument: str) -> str:
    """An override with the home folder for ~ where a path begins, which a shell leaves as it is after the "="."""
    key, equals, value = argument.partition("=")
    return key + equals + re.sub(r"""(^|[,\["'])(~[^/,\]"']*)(?=[/,\]"']|$)""", _home, value)


def _home(found: re.Match) -> str:
    return found[1] + os.path.expanduser(found[2])


def _is_hydras(error: Exception) -> bool:
    return type(error).__module__.startswith(("hydra", "omegaconf"))


def sentence(error: BaseException) -> str:
    """What went wrong, in one line."""
    cause = error.__cause__
    kind = type(error).__name__
    said, found, message = str(error).partition("raised while resolving interpolation: ")
    if found and said.strip() == "InputError":
        return message.splitlines()[0]
    if kind == "MissingConfigException" and getattr(error, "options", None):
        group, _, choice = error.missing_cfg_file.rpartition("/")
        if f"{group}={choice}" in _EXTRAS:
            return f"{group}={choice} needs more packages: pip install -e '.[{_EXTRAS[f'{group}={choice}']}]'"
        return f"there is no {group}={choice}; choose one of {', '.join(error.options)}"
    if kind == "InstantiationException" and cause is not None:
        where = next((line for line in str(error).splitlines() if line.startswith("full_key: ")), "")
        return f"{where.removeprefix('full_key: ')}: {sentence(cause)}".removeprefix(": ")
    refusal = cause or error
    if isinstance(refusal, OmegaConfBaseException) and refusal.full_key and "is not in struct" in str(refusal):
        parent, _, key = refusal.full_key.rpartition(".")
        keys = sorted(str(k) for k in refusal.parent_node or () if k != "_target_")
        close = get_close_matches(key, keys, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"{parent or 'the configuration'} has no key {key!r}, its keys are {', '.join(keys)}{hint}"
    if kind == "OverrideParseException" and "missing EQUAL" in str(error):
        return f"what is typed has the form key=value, got {error.override}"
    if kind == "OverrideParseException":
        key, _, value = error.override.partition("=")
        why = str(error).splitlines()[0]
        return f"{error.override} can't be read, {why}; a value that is text is quoted twice: '{key}=\"{value}\"'"
    return " ".join(str(error).split()) or kind
