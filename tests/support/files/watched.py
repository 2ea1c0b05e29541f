"""Many inputs, one after another in one forked process; each is watched."""

import contextlib
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from inference.cli import fit
from inference.cli.build import build_recipe
from tests.support.files.isolated import LIMIT, MOST_SECONDS, Ended, main
from tests.support.files.mutate import mutated
from tests.support.files.samples import KINDS

RUNS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "pickle.find_class",
}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watched(kind, seeds, folder):
    """What went wrong with mutations of a kind of file: seed → faults, and what was said."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _child(kind, seeds, folder, writer)
    os.close(writer)
    with os.fdopen(reader) as lines:
        ends = [json.loads(line) for line in lines]
    os.waitpid(process, 0)
    wrong = {end["seed"]: end for end in ends if end["faults"]}
    if ends[-1]["seed"] is not None:
        wrong["died"] = ends[-1]
    return wrong


def damaged(kind, seed):
    """The files of a kind, one or two of them mutated; a tenth stays whole."""
    rng = np.random.default_rng([seed, *kind.encode()])
    files, names = dict(KINDS[kind].files), KINDS[kind].damaged
    for name in rng.choice(names, min(len(names), int(rng.integers(1, 3))), replace=False):
        files[name] = mutated(files[name], rng) if seed % 10 else files[name]
    return files


def _child(kind, seeds, folder, writer):
    try:
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
        fit.run = _read_only
        said = os.fdopen(writer, "w", buffering=1)
        watch = _Watch(folder)
        sys.addaudithook(watch)
        for seed in seeds:
            print(json.dumps({"seed": seed, "faults": []}), file=said)  # begun
            ended, more = _one(kind, seed, folder, watch)
            faults = [*ended.faults(), *more]
            print(json.dumps({"seed": seed, "faults": faults, "end": ended}), file=said)
        print(json.dumps({"seed": None, "faults": []}), file=said)
        said.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _read_only(source, options):
    """In place of a fit: the program and its data are built, and a batch is drawn."""
    recipe = build_recipe(source, options)
    for part in (recipe.train, recipe.valid):
        if part is not None and not isinstance(part, dict):
            part.rows(slice(0, 4))


class _Watch:
    """An audit hook that keeps what is run, and what is written outside of a folder."""

    def __init__(self, folder):
        cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache"))
        own = ("/dev/null", "/proc/self/clear_refs", tempfile.gettempdir())
        self.allowed = tuple(map(str, (folder / "out", cache, *own)))
        self.inside, self.seen = str(folder / "in"), []

    def __call__(self, event, arguments):
        if event in RUNS and "uname" not in str(arguments[0]):  # which platform.processor asks
            self.seen.append(f"{event} {arguments}"[:200])
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if writes or event in CHANGES:
            path = str(arguments[0])
            if path.startswith(self.inside) or not path.startswith(self.allowed):
                self.seen.append(f"{event} {path}")


def _one(kind, seed, folder, watch):
    data, out = folder / "in", folder / "out"
    for place in (data, out):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    files = damaged(kind, seed)
    for name, content in files.items():
        (data / name).parent.mkdir(exist_ok=True, parents=True)
        (data / name).write_bytes(content)
    os.environ["LOWERBOUND_DATA"] = str(data)
    watch.seen.clear()
    ended = _ran([str(a) for a in KINDS[kind].command(data, out)])
    more = list(watch.seen)
    there = {str(p.relative_to(data)): p.read_bytes() for p in data.rglob("*") if p.is_file()}
    return ended, [*more, *(["input changed"] if there != files else [])]


def _ran(arguments):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    begin, clock = _megabytes("VmRSS"), time.process_time()
    code, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
    seconds = time.process_time() - clock
    return Ended(
        code, out.getvalue()[-2000:], err.getvalue()[-2000:], seconds, _megabytes("VmHWM") - begin
    )


def _megabytes(name):
    lines = Path("/proc/self/status").read_text().split("\n")
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


__all__ = ["MOST_SECONDS", "damaged", "watched"]
