"""`make mutants`: mutmut puts mistakes into source files, one at a time, and those that no test notices are shown.

The files are those that differ from main, or those that are named. Every tenth of their mutants is tried, by the test
files that name the module or something that it defines, in a copy of the working tree.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
MUTMUT = [sys.executable, "-m", "mutmut"]
READ_THE_SOURCE = {"test_imports", "test_docs", "test_package"}  # which mutmut has rewritten


def output(*command: str, folder: Path = ROOT) -> list[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()


def changed_files() -> list[str]:
    """Source files of the package that differ from main."""
    differ = output("git", "diff", "--name-only", "--diff-filter=d", "main", "--", "src/bvae")
    return [name for name in differ if name.endswith(".py")]


def tests_of(path: str) -> set[str]:
    """Test files that name the module or something that it defines."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names = {Path(path).stem} | {name for name in defined if not name.startswith("_")}
    word = re.compile(rf"\b({'|'.join(sorted(names))})\b")
    tests = [test for test in (ROOT / "tests").rglob("test_*.py") if test.stem not in READ_THE_SOURCE]
    return {str(test.relative_to(ROOT)) for test in tests if word.search(test.read_text(encoding="utf-8"))}


def configuration(files: list[str], tests: list[str]) -> str:
    """The settings that mutmut reads from setup.cfg."""
    values = {
        "source_paths": files,
        "also_copy": ["src", "conf", "docs", "benchmarks", "train.py", "evaluate.py"],
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["-o", "addopts=", "-p", "no:xdist", "-m", "not slow"],
    }
    return "[mutmut]\n" + "".join(f"{key} =\n    " + "\n    ".join(value) + "\n" for key, value in values.items())


def copy_working_tree(folder: Path) -> None:
    for name in output("git", "ls-files", "--cached", "--others", "--exclude-standard"):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Which mistakes do the tests notice?")
    parser.add_argument("files", nargs="*", help="source files (default: those that differ from main)")
    parser.add_argument("--only", default="*3", help="mutants whose names match this pattern (default: %(default)s)")
    arguments = parser.parse_args()
    files = arguments.files or changed_files()
    if not files:
        sys.exit("no source file differs from main: name some, make mutants ARGS=src/bvae/metrics/mig.py")
    tests = sorted(set().union(*map(tests_of, files)))
    if not tests:
        sys.exit(f"no test names {' or '.join(files)}")
    print(f"Mistakes in {' '.join(files)}\nTests: {' '.join(tests)}", flush=True)
    with TemporaryDirectory(prefix="mutants-") as name:
        folder = Path(name)
        copy_working_tree(folder)
        (folder / "setup.cfg").write_text(configuration(files, tests), encoding="utf-8")
        run = [*MUTMUT, "run", "--max-children", "2", arguments.only]
        subprocess.run(run, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
        for line in output(*MUTMUT, "results", folder=folder):
            mutant, _, result = line.strip().partition(": ")
            if fnmatch(mutant, arguments.only) and result in ("survived", "no tests"):
                print("", *output(*MUTMUT, "show", mutant, folder=folder), sep="\n")


if __name__ == "__main__":
    main()
