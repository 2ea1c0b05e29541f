"""One small error at a time in the mathematics: do the tests notice?  (Mutation testing.)

    python -m tests.support.mutations --count 300 --seed 0 --record mutations.jsonl

makes that many errors, each of another kind or in another place, chosen at random; runs the sharp
tests of the file that has it, and writes one line of JSON for each: what was changed, and the first
test that failed.  A run that was cut off goes on where it ended; ``--again`` tries what survived
once more, by all fast tests of the file.
"""

import argparse
import ast
import contextlib
import copy
import gc
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from tests.support.mutated_files import IMPORTS, ONLY, TESTS

ROOT = Path(__file__).parents[2]
COPIED = ("inference", "ppl_models", "guides", "tests")
PYTEST = ("-x", "-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:unraisableexception")
TIMEOUT = 90  # seconds

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
EDGES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
METHODS = {
    "mean": "sum", "sum": "mean", "min": "max", "max": "min", "exp": "neg", "log": "neg",
    "softmax": "log_softmax", "log_softmax": "softmax", "logsumexp": "mean", "cumsum": "flip",
    "zeros_like": "ones_like", "ones_like": "zeros_like", "new_zeros": "new_ones",
    "sigmoid": "tanh", "tanh": "sigmoid", "relu": "tanh", "softplus": "relu", "logaddexp": "add",
}  # fmt: skip
UNTOUCHED = {"strict", "validate_args", "device", "dtype", "create_graph"}
SYMMETRIC = {"isclose", "min", "max", "logaddexp", "minimum", "maximum"}
SENTENCES = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)


@dataclass(frozen=True)
class Mutant:
    """A file's text from ``start`` to ``end`` (bytes) replaced."""

    path: str
    line: int
    start: int
    end: int
    was: str
    becomes: str

    def key(self) -> tuple:
        return self.path, self.start, self.end, self.becomes

    def spoil(self, text: bytes) -> bytes:
        return text[: self.start] + self.becomes.encode() + text[self.end :]


def changed(node: ast.AST, **fields) -> ast.AST:
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _arithmetic(node: ast.BinOp) -> Iterator[ast.AST]:
    """Another operator; one side alone."""
    if type(node.op) in OPERATORS:
        yield changed(node, op=OPERATORS[type(node.op)]())
    if isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        yield node.left
    if isinstance(node.op, ast.Add | ast.Mult):
        yield node.right


def _number(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(0 if node.value else -1)
    elif isinstance(node.value, float):
        yield ast.Constant(node.value * 2 + 1)


def _comparison(node: ast.Compare) -> Iterator[ast.AST]:
    (kind, *more) = (type(op) for op in node.ops)
    for table in (OPERATORS, EDGES):
        if kind in table and not more:
            yield changed(node, ops=[table[kind]()])


def _boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield changed(node, op=OPERATORS[type(node.op)]())
    yield from node.values


def _call(node: ast.Call) -> Iterator[ast.AST]:
    """Another function; a method not called; two arguments exchanged; a keyword left out."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if isinstance(node.func, ast.Attribute):
        if name in METHODS:
            yield changed(node, func=changed(node.func, attr=METHODS[name]))
        if not node.args and not node.keywords and not isinstance(node.func.value, ast.Call):
            yield node.func.value
    starred = any(isinstance(a, ast.Starred) for a in node.args[:2])
    if len(node.args) > 1 and not starred and name not in SYMMETRIC:
        yield changed(node, args=[node.args[1], node.args[0], *node.args[2:]])
    for keyword in node.keywords:
        if keyword.arg and keyword.arg not in UNTOUCHED:
            yield changed(node, keywords=[k for k in node.keywords if k is not keyword])


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """Every wrong form of one node."""
    match node:
        case ast.BinOp():
            yield from _arithmetic(node)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield node.operand
        case ast.Constant():
            yield from _number(node)
        case ast.Compare():
            yield from _comparison(node)
        case ast.BoolOp():
            yield from _boolean(node)
        case ast.Call():
            yield from _call(node)
        case ast.IfExp():
            yield changed(node, body=node.orelse, orelse=node.body)
        case ast.AugAssign():
            yield ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()


def nodes(node: ast.AST, parent: ast.AST | None = None) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    """(node, parent) of everything that is computed: no annotations, decorators or sentences."""
    yield node, parent
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, SENTENCES):
                yield from nodes(child, node)


def mutants(path: str, text: bytes) -> list[Mutant]:
    """All of a file (or of some of its functions), in its order."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    roots = [ast.parse(text)]
    if path in ONLY:
        functions = (n for n in ast.walk(roots[0]) if isinstance(n, ast.FunctionDef))
        roots = [f for f in functions if f.name in ONLY[path]]
    for node, parent in (pair for root in roots for pair in nodes(root)):
        wrong = list(variants(node))
        if isinstance(parent, ast.If | ast.IfExp | ast.While) and node is parent.test:
            wrong.append(ast.UnaryOp(ast.Not(), node))
        for other in wrong:
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            new = ast.unparse(ast.fix_missing_locations(other))
            new = new if isinstance(node, ast.stmt) else f"({new})"
            found.append(Mutant(path, node.lineno, start, end, text[start:end].decode(), new))
    return found


class Copy:
    """A copy of the project in which one file at a time is spoiled.

    Each run is a fork of this process, which has torch and Pyro imported already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, int(time.time()) - 1_000_000
        for name in COPIED:
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.right = {path: (folder / path).read_bytes() for path in TESTS}

    def write(self, path: str, source: bytes) -> None:
        """With a time of its own, lest Python takes another mutant's bytecode for it."""
        self.now += 1
        (self.folder / path).write_bytes(source)
        os.utime(self.folder / path, (self.now, self.now))

    def run(self, path: str, thorough: bool) -> tuple[str, str]:
        """("survived", "killed" or "timeout", the test that failed) of sharp tests, or of all."""
        sharp, others = TESTS[path]
        said = self.folder / "said.txt"
        child = os.fork()
        if not child:
            _pytest_in(self.folder, [*sharp, *others] if thorough else sharp, said)
        status = _wait(child)
        if status is None:
            return "timeout", ""
        if os.waitstatus_to_exitcode(status) == 0:
            return "survived", ""
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said.read_text(), re.MULTILINE)
        return "killed", failed[1] if failed else said.read_text()[-300:]

    def tried(self, mutant: Mutant, thorough: bool) -> dict:
        right, start = self.right[mutant.path], time.time()
        self.write(mutant.path, mutant.spoil(right))
        result, by = self.run(mutant.path, thorough)
        self.write(mutant.path, right)
        return {**asdict(mutant), "result": result, "by": by, "seconds": time.time() - start}


def _pytest_in(folder: Path, runs: list[list[str]], said: Path) -> None:
    """In a forked process: run pytest there until it fails, and end."""
    os.setpgid(0, 0)
    os.chdir(folder)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [str(folder), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    for name in [m for m in sys.modules if m.split(".")[0] in COPIED]:
        del sys.modules[name]
    codes = (pytest.main([*PYTEST, *arguments]) for arguments in runs)
    failed = any(code not in (0, 5) for code in codes)  # 5: no test has these keywords
    sys.stdout.flush()
    os._exit(failed)


def _wait(child: int) -> int | None:
    """Its status; None if it was stopped for want of time."""
    end = time.time() + TIMEOUT
    while time.time() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def recorded(file: Path) -> dict[tuple, dict]:
    """The last line of each mutant; known by its text and place in the file."""
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return {(r["path"], r["start"], r["end"], r["becomes"]): r for r in lines}


def summary(records: list[dict]) -> str:
    survived = [r for r in records if r["result"] == "survived"]
    lines = [f"{r['path']}:{r['line']}  {r['was']!r}  became  {r['becomes']!r}" for r in survived]
    noticed = len(records) - len(survived)
    return "\n".join([*lines, f"{len(records)} made, {noticed} noticed, {len(survived)} survived"])


def try_all(project: Copy, chosen: list[Mutant], record: Path, again: bool) -> None:
    """One line in the record for each that is not there, or survived and is tried again."""
    for path in sorted({m.path for m in chosen}):
        result, by = project.run(path, again)
        assert result == "survived", f"{path} as it is fails {by}"
    before = recorded(record)
    for mutant in chosen:
        known = before.get(mutant.key())
        if known is None or (again and known["result"] == "survived"):
            with record.open("a") as out:
                out.write(json.dumps(project.tried(mutant, again)) + "\n")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--count", type=int, default=300)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--record", type=Path, default=Path("mutations.jsonl"))
    words.add_argument("--only", default="", help="files whose path has this in it")
    words.add_argument("--again", action="store_true", help="try what survived once more")
    asked = words.parse_args()
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # forks share what is imported, and need not look through it
    with tempfile.TemporaryDirectory() as folder:
        project = Copy(Path(folder))
        texts = {path: text for path, text in project.right.items() if asked.only in path}
        every = [mutant for path, text in texts.items() for mutant in mutants(path, text)]
        chosen = random.Random(asked.seed).sample(every, min(asked.count, len(every)))
        print(f"{len(chosen)} of {len(every)} mutants of {len(texts)} files", flush=True)
        try_all(project, chosen, asked.record, asked.again)
    print(summary(list(recorded(asked.record).values())))


if __name__ == "__main__":
    main()
