"""A process that has imported all that the programs import, and forks one for each that the tests run.

The imports take ten seconds, longer than most of the runs. What is run is the real train.py or evaluate.py, as the main
program of a process of its own, in its folder and with its environment.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


class Warm:
    """Runs programs as `subprocess.run` does, without their imports' time."""

    def __init__(self, environment: dict[str, str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._server = subprocess.Popen([sys.executable, __file__], env=environment, **pipes)

    def run(self, command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
        """Run a program and wait for its end, for three minutes at most."""
        with TemporaryDirectory() as streams:
            request = {"command": command, "folder": str(folder), "environment": environment, "streams": streams}
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            status = int(self._server.stdout.readline())
            out, err = (Path(streams, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(command, status, out, err)

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait()


def serve() -> None:
    """Fork a process for each line, and answer with its exit status."""
    import bvae.app.assemble
    import bvae.callbacks
    import bvae.evaluation
    import bvae.loggers
    import bvae.report  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(**json.loads(line))
        alarm = threading.Timer(180, os.kill, (child, 9))
        alarm.start()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        alarm.cancel()
        print(status, flush=True)


def become(command: list[str], folder: str, environment: dict[str, str], streams: str) -> None:
    """Be the program, and end with it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name, mode in ((0, os.devnull, os.O_RDONLY), (1, "stdout", os.O_WRONLY), (2, "stderr", os.O_WRONLY)):
        os.dup2(os.open(os.path.join(streams, name), mode | os.O_CREAT, 0o600), number)
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    status = 0
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve()
