"""The pages are true: their Python runs and prints what they say, their links and flags exist.

A page's blocks of Python share their names, from top to bottom; a block of ``text`` behind one is
what it prints (``...`` stands for anything).  A page with a block marked ``python slow`` is slow.
"""

import contextlib
import doctest
import io
import re
import shlex
import urllib.parse
from pathlib import Path

import pytest
import torch

import inference
import lowerbound
from inference.cli import registry
from inference.cli.main import ON_RECIPES, parsed, with_data

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python( slow)?\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.M | re.S)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
COMMAND = re.compile(r"^    +lowerbound ((?:.*\\\n)*.*)$", re.M)
ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_installed_name_is_the_same_face():
    assert lowerbound.__all__ == inference.__all__
    assert all(getattr(lowerbound, name) is getattr(inference, name) for name in inference.__all__)


def named(path):
    return str(path.relative_to(ROOT))


def pages_with_python():
    for path in PAGES:
        if blocks := PYTHON.findall(path.read_text()):
            marks = [pytest.mark.slow] * any(slow for slow, _, _ in blocks)
            yield pytest.param(path, id=named(path), marks=marks)


@pytest.mark.parametrize("path", list(pages_with_python()))
def test_its_python_prints_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)  # as in anybody's session
    names = {"__name__": "page"}
    text = path.read_text()
    for found in PYTHON.finditer(text):
        _, code, said = found.groups(default="")
        line = text.count("\n", 0, found.start(2))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * line + code, path, "exec"), names)
        assert doctest.OutputChecker().check_output(said, printed.getvalue(), ELLIPSIS), (
            f"{named(path)}, line {line + 1}, says\n{said}\nand prints\n{printed.getvalue()}"
        )


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_its_links_lead_to_files(path):
    for target, _ in LINK.findall(path.read_text()):
        if target and not urllib.parse.urlsplit(target).scheme:
            assert (path.parent / target).exists(), f"{named(path)} links to {target}"


def commands():
    for path in PAGES:
        for found in COMMAND.findall(path.read_text()):
            yield pytest.param(found, id=f"{named(path)}: {found[:60]}")


@pytest.mark.parametrize("command", list(commands()))
def test_its_commands_have_the_flags_that_they_use(command, monkeypatch):
    monkeypatch.chdir(ROOT)  # where recipes lie
    command = command.replace("\\\n", " ").replace("$estimator", "Trace_ELBO")
    plain = re.sub(r"\[[^]]*\]|\s#.*", "", command)
    name, *words = shlex.split(plain)
    if name in ("--version", "list") or "--help" in words or "my_recipe.py" in words:
        return
    if name in ON_RECIPES:
        source = registry.find(words[0])
        parsed(ON_RECIPES[name][0](source.options), with_data(words[1:]), name)
    else:
        parsed(registry.commands()[name].options, words, name)
