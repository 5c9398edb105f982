"""Puts mistakes into the source, one at a time, and says which of them no test notices.

`make mutants` takes a sample of the mistakes that could be made in the files that differ from main; CONTRIBUTING.md has
how to read what it prints. The mistakes are put into a copy of the working tree. Each is tried in a fork of a process
that has the libraries imported, by the test files that name the module or something that it defines.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

SWAPS = [
    ("mean", "sum"), ("min", "max"), ("argmin", "argmax"), ("minimum", "maximum"), ("amin", "amax"), ("any", "all"),
    ("var", "std"), ("floor", "ceil"), ("zeros", "ones"), ("zeros_like", "ones_like"), ("sin", "cos"), ("x", "y"),
    ("width", "height"), ("rows", "columns"), ("train", "test"), ("train", "eval"), ("first", "last"), ("low", "high"),
    ("start", "stop"), ("lower", "upper"), ("before", "after"), ("mean", "log_var"), ("append", "appendleft"),
    ("encoder", "decoder"), ("betas", "lr"), ("in_features", "out_features"), ("logical_and", "logical_or"),
]  # fmt: skip
DROPPED = {"detach", "clone", "copy", "abs", "double", "float", "cpu", "contiguous", "resolve", "sqrt", "exp", "log"}
COMPARED = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not",
    ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
COMPUTED = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//", ast.Pow: "*",
    ast.BitOr: "&", ast.BitAnd: "|",
}  # fmt: skip
KEPT_DECORATORS = ("property", "staticmethod", "classmethod", "dataclass", "overload", "abstractmethod", "setter")


class Mutant(NamedTuple):
    """One mistake: bytes start to stop of a file become `new`."""

    path: str
    line: int
    start: int
    stop: int
    old: str
    new: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.path}:{self.line}  {old[:90]}  ->  {new[:90]}"


class Source:
    """A file's text and where its nodes are."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.data = (ROOT / path).read_bytes()
        self.lines = [0]
        for line in self.data.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.AST) -> str:
        start, stop = self.span(node)
        return self.data[start:stop].decode()

    def replaced(self, old: str, new: str) -> Mutant:
        """Make a mistake of one's own."""
        if (count := self.data.count(old.encode())) != 1:
            sys.exit(f"{self.path} has {count} places like {old!r}; it must be 1")
        at = self.data.index(old.encode())
        return Mutant(self.path, self.data[:at].count(b"\n") + 1, at, at + len(old.encode()), old, new)

    def mutants(self) -> list[Mutant]:
        found: dict[tuple, Mutant] = {}
        for node, new in self._mistakes(ast.parse(self.data)):
            start, stop = self.span(node)
            mutant = Mutant(self.path, node.lineno, start, stop, self.text(node), new)
            changed = self.data[:start] + new.encode() + self.data[stop:]
            with contextlib.suppress(SyntaxError):
                ast.parse(changed)
                found.setdefault((start, stop, new), mutant)
        return list(found.values())

    def _mistakes(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Raise):
                continue  # wording
            if child is getattr(node, "annotation", None) or child is getattr(node, "returns", None):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in self.text(child.test):
                continue
            if isinstance(child, ast.Assign) and self.text(child.targets[0]) in ("__all__", "__version__"):
                continue
            yield from self._of_statement(child)
            yield from self._of_expression(child)
            yield from self._mistakes(child)

    def _of_statement(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        match node:
            case ast.Expr(value=ast.Call()) | ast.AugAssign():
                yield node, "pass"
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                yield node, "pass"
            case ast.If() | ast.IfExp():
                yield node.test, "False"
                yield node.test, "True"
            case ast.FunctionDef(decorator_list=decorators) | ast.ClassDef(decorator_list=decorators):
                for decorator in decorators:
                    if not any(name in self.text(decorator) for name in KEPT_DECORATORS):
                        yield decorator, "(lambda wrapped: wrapped)"
            case ast.comprehension(ifs=[_, *_]):
                for test in node.ifs:
                    yield test, "True"

    def _of_expression(self, node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
        match node:
            case ast.Compare(ops=[op]) if type(op) in COMPARED:
                yield node, f"{self.text(node.left)} {COMPARED[type(op)]} {self.text(node.comparators[0])}"
            case ast.BinOp() if type(node.op) in COMPUTED and not isinstance(
                node.left, ast.JoinedStr | ast.Constant | ast.Tuple
            ):
                yield node, f"{self.text(node.left)} {COMPUTED[type(node.op)]} {self.text(node.right)}"
                yield node, self.text(node.left)
            case ast.BinOp() if type(node.op) in COMPUTED:
                yield node, self.text(node.right)
            case ast.UnaryOp(op=ast.USub() | ast.Not()):
                yield node, f"({self.text(node.operand)})"
            case ast.BoolOp():
                yield node, (" or " if isinstance(node.op, ast.And) else " and ").join(map(self.text, node.values))
            case ast.Constant(value=bool()):
                yield node, str(not node.value)
            case ast.Constant(value=int()):
                yield node, str(node.value + 1)
                if node.value in (1, 2):
                    yield node, str(node.value - 1)
            case ast.Constant(value=float()):
                yield node, repr(node.value * 2 or 1.0)
            case ast.Name(id=name):
                yield from ((node, other) for other in others(name) if other.encode() in self.data)
            case ast.Attribute(attr=name):
                yield from ((node, f"{self.text(node.value)}.{other}") for other in others(name))
            case ast.Call():
                yield from self._of_call(node)
            case ast.Slice(lower=lower, upper=upper):
                if lower is not None:
                    yield lower, ""
                if upper is not None:
                    yield upper, ""

    def _of_call(self, node: ast.Call) -> Iterator[tuple[ast.AST, str]]:
        function = self.text(node.func)
        arguments = [self.text(a) for a in node.args]
        keywords = [f"{k.arg}={self.text(k.value)}" if k.arg else f"**{self.text(k.value)}" for k in node.keywords]
        for n in range(len(keywords)):
            yield node, f"{function}({', '.join(arguments + keywords[:n] + keywords[n + 1 :])})"
        if (
            len(arguments) > 1
            and not isinstance(node.args[0], ast.Starred)
            and not isinstance(node.args[1], ast.Starred)
        ):
            yield node, f"{function}({', '.join([arguments[1], arguments[0], *arguments[2:], *keywords])})"
            if function not in ("isinstance", "getattr", "hasattr", "setattr"):
                yield node, f"{function}({', '.join(arguments[:-1] + keywords)})"
        if isinstance(node.func, ast.Attribute) and node.func.attr in DROPPED and not arguments:
            yield node, self.text(node.func.value)
        if function in ("sorted", "reversed", "abs", "set") and arguments:
            yield node, f"({arguments[0]})" if function == "abs" else f"list({arguments[0]})"
        if function.split(".")[-1] in ("sqrt", "log", "exp", "clip", "clamp") and arguments:
            yield node, f"({arguments[0]})"


def others(name: str) -> list[str]:
    """The names that it could be taken for."""
    whole = [b if a == name else a for a, b in SWAPS if name in (a, b)]
    return whole or [name.replace(a, b) for a, b in (("train", "test"), ("test", "train")) if a in name.split("_")]


def tests_of(path: str) -> list[str]:
    """The test files that name the module or something that it defines; its own file first."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {Path(path).stem}
    names = {name for name in names if not name.startswith("_")}
    word = re.compile(rf"\b({'|'.join(map(re.escape, sorted(names)))})\b") if names else re.compile("$^")
    files = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if word.search(p.read_text(encoding="utf-8"))]
    files.sort(key=lambda p: p.stem != f"test_{Path(path).stem}")
    return [str(p.relative_to(ROOT)) for p in files]


def run_tests(copy: Path, tests: list[str], timeout: float, log: Path) -> str:
    """ "" where they pass, else the first failure."""
    child = os.fork()
    if child == 0:
        os.setsid()
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(copy)
        sys.path.insert(0, str(copy / "src"))
        os.environ["PYTHONPATH"] = str(copy / "src")
        import pytest

        options = ["-o", "addopts=", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", "not slow", "-xq", "--tb=line"]
        os._exit(int(pytest.main([*options, f"--basetemp={copy}-tmp", *tests])))
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status) == 0:
                return ""
            failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log.read_text(errors="replace"), re.MULTILINE)
            return failed[0] if failed else f"exit status {os.waitstatus_to_exitcode(status)}"
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def changed_files() -> list[str]:
    differ = git("diff", "--name-only", "--diff-filter=d", "main", "--", "src").splitlines()
    return [name for name in differ if name.endswith(".py")]


def copy_tree(copy: Path) -> None:
    for name in filter(None, git("ls-files", "-co", "--exclude-standard", "-z").split("\0")):
        if os.path.lexists(ROOT / name):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)


def import_libraries() -> None:
    """Import what takes seconds in the process that each test run is a fork of."""
    for name in ("torch", "lightning", "torchmetrics", "sklearn.ensemble", "sklearn.svm", "matplotlib.pyplot", "wandb"):
        importlib.import_module(name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Which mistakes do the tests notice?")
    parser.add_argument("files", nargs="*", help="source files (default: those that differ from main)")
    parser.add_argument("--sample", type=int, default=20, help="mutants in all; 0 for every one (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: %(default)s)")
    parser.add_argument(
        "--tests", nargs="+", help="test files (default: those that name the module or what it defines)"
    )
    parser.add_argument("--replace", nargs=2, metavar=("OLD", "NEW"), help="try this one mistake in the one file")
    a = parser.parse_args()
    files = a.files or changed_files()
    if not files:
        sys.exit("no source file differs from main: name some, make mutants ARGS=src/bvae/metrics/mig.py")
    sources = {path: Source(path) for path in files}
    if a.replace:
        (source,) = sources.values()
        mutants = [source.replaced(*a.replace)]
    else:
        mutants = [m for source in sources.values() for m in source.mutants()]
        if 0 < a.sample < len(mutants):
            mutants = random.Random(a.seed).sample(mutants, a.sample)
        mutants.sort()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    import_libraries()
    killed, all_ = Counter(), Counter()
    with TemporaryDirectory(prefix="mutants-") as folder:
        copy, log = Path(folder, "tree"), Path(folder, "log")
        copy_tree(copy)
        times: dict[str, float] = {}
        for m in mutants:
            tests = a.tests or tests_of(m.path)
            if m.path not in times:
                began = time.monotonic()
                if not tests:
                    print(f"{m.path}: no test names it", flush=True)
                elif failure := run_tests(copy, tests, 900, log):
                    print(log.read_text(errors="replace")[-3000:])
                    sys.exit(f"Without a mistake {failure} fails")
                times[m.path] = time.monotonic() - began
                print(f"{m.path}: {len(tests)} test files, {times[m.path]:.0f} s: {' '.join(tests)}", flush=True)
            data = sources[m.path].data
            (copy / m.path).write_bytes(data[: m.start] + m.new.encode() + data[m.stop :])
            failure = run_tests(copy, tests, 3 * times[m.path] + 30, log) if tests else ""
            (copy / m.path).write_bytes(data)
            package = str(Path(m.path).parent)
            all_[package] += 1
            killed[package] += bool(failure)
            print(f"{'killed  ' if failure else 'SURVIVED'} {m}" + (f"  [{failure}]" if failure else ""), flush=True)
    for package in all_:
        print(f"{package}: {killed[package]} of {all_[package]} killed")


if __name__ == "__main__":
    main()
