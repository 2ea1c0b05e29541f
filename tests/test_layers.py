"""Who may import whom: the house's one-way streets, and a --help that needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("ppl_models", "guides", "inference")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def offences(folder, allowed):
    for path in (ROOT / folder).rglob("*.py"):
        if folder == "inference" and ("recipes" in path.parts or path.name == "cli.py"):
            continue
        for name in imports(path):
            if name.split(".")[0] in OURS and not name.startswith(allowed):
                yield f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("ppl_models", ("ppl_models",)),
        ("guides", ("guides", "ppl_models")),
        ("inference", ("inference",)),
    ],
)
def test_imports_go_one_way(folder, allowed):
    assert list(offences(folder, allowed)) == []


def test_the_engine_does_not_import_its_recipes():
    for path in (ROOT / "inference").glob("*.py"):
        if path.name != "cli.py":
            assert not [n for n in imports(path) if n.startswith("inference.recipes")], path


def test_help_imports_no_torch():
    script = (
        "import sys; sys.argv = ['lowerbound', 'fit', 'vae', '--help']\n"
        "from inference.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'torch' not in sys.modules and 'pyro' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--latent-dim" in done.stdout
