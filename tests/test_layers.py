"""Who may import whom: the house's one-way streets, no circle, and a --help that needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SYSTEMS = {"ppl_models", "guides"}
ROOMS = {p.name for p in (ROOT / "inference").iterdir() if (p / "__init__.py").exists()}
DOMAINS = {p.name for p in (ROOT / "inference/recipes").iterdir() if (p / "__init__.py").exists()}

# room → the rooms that its modules may import; whatever is not here is an offence
ARROWS = {
    "ppl_models": set(),
    "guides": {"ppl_models"},
    "util": set(),
    "estimators": {"util"},
    "data": {"util"},
    "engine": {"util", "data", "estimators"},
    "results": {"util", "data", "estimators", "engine"},
    "workflow": {"util", "data", "estimators", "engine", "results"},
    "recipes": {"util", "data", "estimators", "engine", "results"} | SYSTEMS,
    "cli": {"util", "data", "estimators", "engine", "results", "workflow", "recipes"} | SYSTEMS,
}


def imports(path):
    """Every module that a file names in an import, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module):
    """The room of one of our modules; None of others, and of the face, which is lazy."""
    first, *rest = module.split(".")
    if first in SYSTEMS:
        return first
    return rest[0] if first == "inference" and rest and rest[0] in ROOMS else None


def files(name):
    return sorted((ROOT / name if name in SYSTEMS else ROOT / "inference" / name).rglob("*.py"))


def modules():
    """Module → the modules of ours that it imports at all."""
    paths = [p for top in ("inference", *SYSTEMS) for p in (ROOT / top).rglob("*.py")]
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
    known = {name.removesuffix(".__init__") for name in names}
    return {
        name.removesuffix(".__init__"): {i for i in imports(path) if i in known - {"inference"}}
        for name, path in names.items()
    }


@pytest.mark.parametrize("name", sorted(ARROWS))
def test_arrows_go_down(name):
    offences = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files(name)
        for module in imports(path)
        if room(module) not in {None, name} | ARROWS[name]
    }
    assert not offences


def test_every_room_has_its_arrows_stated():
    assert ARROWS.keys() == ROOMS | SYSTEMS


def test_a_domain_knows_no_other():
    for path in files("recipes"):
        at = path.relative_to(ROOT / "inference/recipes").parts[0]
        others = DOMAINS - {at}
        named = {part for module in imports(path) for part in module.split(".")[2:3]}
        assert not named & others, path


def test_no_circle():
    graph = {name: needs for name, needs in modules().items() if name != "inference"}  # it is lazy
    while free := {m for m, needs in graph.items() if not (needs - {m}) & graph.keys()}:
        graph = {m: needs for m, needs in graph.items() if m not in free}
    assert not graph


def test_no_test_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            assert not (parts[0] == "tests" and any(p.startswith("test_") for p in parts)), path


def test_a_folder_of_tests_is_one_of_the_source():
    tested = {p.parent.relative_to(ROOT / "tests") for p in (ROOT / "tests").rglob("test_*.py")}
    tested.remove(Path("programs"))  # the catalogue: anybody's programs, of no room
    assert all((ROOT / folder).is_dir() for folder in tested), tested


def test_folders_are_small():
    for folder in [ROOT / "inference", *(p.parent for p in (ROOT / "inference").rglob("*.py"))]:
        entries = [p for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
        most = 11 if folder.name == "recipes" else 10  # a room a domain
        assert len(entries) <= most or folder.name == "estimators", folder


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--help"], "lowerbound neighbours"),
        (["list"], "captioner"),
        (["fit", "vae", "--help"], "--latent-dim"),
        (["fit", "captioner", "--help"], "--beam"),
        (["audit", "skipgram", "--help"], "--samples"),
        (["caption", "--help"], "--length-penalty"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_help_imports_no_torch(arguments, answer):
    script = (
        f"import sys; sys.argv = ['lowerbound', *{arguments}]\n"
        "from inference.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'pyro', 'numpy', 'matplotlib', 'xarray'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout
