"""The command line: ``lowerbound fit | audit | compare | caption | neighbours | list``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from inference.engine import launch
from inference.util.errors import UserError

USAGE = """\
lowerbound: fit Pyro programs by SVI, audit their gradients, compare their ELBO traces

  lowerbound fit RECIPE [options]   train a recipe: one of ours, or a Python file of yours
  lowerbound compare RUN RUN …      two or more runs: table, picture, one tree for ArviZ
  lowerbound audit RECIPE           bias, variance and cost of gradient estimators on it
  lowerbound caption RUN IMAGE …    say what is on pictures, with a captioner of yours
  lowerbound neighbours RUN WORD …  the words nearest to a word, by the vectors of a run or file
  lowerbound list                   the recipes

  lowerbound fit vae --help         every option of a recipe
  lowerbound fit vae --data digits --latent-dim 10 --seeds 3 --out runs/vae10
"""


@dataclass(frozen=True)
class Compare:
    """Compare runs: which bound is better, by how much, and how sure that is.

    lowerbound compare runs/a runs/b --out runs/a-or-b
    """

    runs: Annotated[tuple[Path, ...], "positional"]
    """Directories of two or more runs (or their trace.nc)."""
    out: Path = Path("runs/comparison")
    """Where comparison.png and comparison.nc go."""
    level: float | None = None
    """Time to reach this bound, nats per datum [the worst of the final bounds]."""


@dataclass(frozen=True)
class Caption:
    """Caption pictures with a trained captioner, and draw where it looked.

    lowerbound caption runs/captioner photo.jpg other.png
    """

    run: Annotated[Path, "positional"]
    """Directory of a finished fit of the recipe captioner."""
    images: Annotated[tuple[Path, ...], "positional"]
    """Pictures (jpg, png, …)."""
    beam: int = 5
    """Captions kept at a time while the best is looked for."""
    length_penalty: float = 0.3
    """α of what is searched for: the largest log p(y | a) / length^α."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""


@dataclass(frozen=True)
class Neighbours:
    """Name the ten words nearest to each word, or to a sum of words, and their cosines.

    lowerbound neighbours runs/skipgram king prague

    lowerbound neighbours vectors.bin king - man + woman
    """

    vectors: Annotated[Path, "positional"]
    """Directory of a run that left vectors.txt, or a file of word2vec's (.txt, .vec, .bin; .gz)."""
    words: Annotated[tuple[str, ...], "positional"]
    """Words; with + or - among them, one sum."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point: bad input is one sentence and exit code 2; an interruption is 130."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands: dict[str, Callable[[list[str]], None]] = {
        "fit": fit,
        "audit": audit,
        "compare": compare,
        "caption": caption,
        "neighbours": neighbours,
        "list": list_recipes,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0 if arguments else 2)
    try:
        if arguments[0] not in commands:
            raise UserError(f"no command {arguments[0]!r}: give one of {', '.join(commands)}")
        with launch.exit_together(), launch.only_rank_zero_prints():
            commands[arguments[0]](arguments[1:])
    except UserError as error:
        print(f"lowerbound: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if launch.rank() == 0:
            print("\nlowerbound: stopped; the same command with --resume goes on", file=sys.stderr)
        sys.exit(130)


def recipe_named(arguments: list[str], command: str) -> str:
    """The recipe that a command is about; how to use it and exit if there is none."""
    if not arguments or arguments[0].startswith("-"):
        print(f"usage: lowerbound {command} RECIPE [options]; see lowerbound {command} vae --help")
        list_recipes([])
        sys.exit(0 if arguments else 2)
    return arguments[0]


def fit(arguments: list[str]) -> None:
    """Train a recipe, report its figures."""
    name = recipe_named(arguments, "fit")
    import tyro

    from inference.cli import recipes as registry

    options = tyro.cli(
        registry.load(name).Options, args=with_data(arguments[1:]), prog=f"lowerbound fit {name}"
    )
    run, figures = registry.fit_recipe(name, options)
    run.finish(figures)


def with_data(arguments: list[str]) -> list[str]:
    """The data may stand by themselves, right after the recipe: fit skipgram corpus.txt."""
    alone = bool(arguments) and not arguments[0].startswith("-")
    return ["--data", *arguments] if alone else arguments


def audit(arguments: list[str]) -> None:
    """Measure gradient estimators on a recipe's program."""
    name = recipe_named(arguments, "audit")
    import tyro

    from inference.cli import audit as auditable
    from inference.cli import recipes as registry

    kind = auditable.options(registry.load(name).Options)
    options = tyro.cli(kind, args=arguments[1:], prog=f"lowerbound audit {name}")
    auditable.audit_recipe(name, options)


def compare(arguments: list[str]) -> None:
    """Print the table of a comparison; keep its picture and tree."""
    import tyro
    from tyro.conf import Positional

    hints = Compare.__annotations__
    hints["runs"] = Positional[tuple[Path, ...]]
    options = tyro.cli(Compare, args=arguments, prog="lowerbound compare")
    from inference.workflow.compare import compare_directories

    compare_directories(options.runs, options.out, options.level)


def caption(arguments: list[str]) -> None:
    """Print a caption for each picture; keep a picture of its looks."""
    import tyro
    from tyro.conf import Positional

    hints = Caption.__annotations__
    hints["run"], hints["images"] = Positional[Path], Positional[tuple[Path, ...]]
    options = tyro.cli(Caption, args=arguments, prog="lowerbound caption")
    from inference.recipes.captions import captioning

    said = captioning.caption(
        options.run, options.images, options.beam, options.length_penalty, options.device
    )
    for file, words in said.items():
        print(f"{file}: {words}")
    print(f"where it looked: {options.run / 'captions'}")


def neighbours(arguments: list[str]) -> None:
    """Print a table of neighbours for each word."""
    import tyro
    from tyro.conf import Positional

    hints = Neighbours.__annotations__
    hints["vectors"], hints["words"] = Positional[Path], Positional[tuple[str, ...]]
    options = tyro.cli(Neighbours, args=arguments, prog="lowerbound neighbours")
    from rich.console import Console

    from inference.recipes.words.report import word_vectors

    queries = word_vectors.queries(options.words)
    vectors = word_vectors.load(options.vectors)
    Console().print(*[word_vectors.table(vectors, query) for query in queries])


def list_recipes(arguments: list[str]) -> None:
    """The recipes, a line each."""
    from inference.cli import recipes as registry

    for name, line in registry.described():
        print(f"  {name:<16} {line}")
