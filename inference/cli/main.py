"""The command line: ``lowerbound fit | audit | list``, and the commands of each domain.

A command's options are parsed here; the module that runs it is imported only then, so that
``--help`` needs no torch.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TypeVar

import tyro

from inference.cli import registry
from inference.cli.options import audit_options, sweep_options
from inference.engine import launch
from inference.recipes.options import Training, refuse_impossible
from inference.util.errors import UserError
from inference.util.terminal import printable

USAGE = """\
lowerbound: fit Pyro programs by SVI, audit their gradients, compare their ELBO traces

  lowerbound fit RECIPE [options]    train a recipe: one of ours, or a Python file of yours
  lowerbound audit RECIPE [options]  bias, variance and cost of gradient estimators on it
  lowerbound sweep RECIPE [options]  its runs over a grid of options, side by side, compared
  lowerbound list                    the recipes
{commands}
  lowerbound fit vae --help          every option of a recipe, and so of every command
  lowerbound fit vae --data digits --latent-dim 10 --seeds 3 --out runs/vae10
"""

Options = TypeVar("Options")
ON_RECIPES: dict[str, tuple[Callable[[type[Training]], type], str]] = {
    "fit": (lambda recipe: recipe, "inference.cli.fit"),
    "audit": (audit_options, "inference.cli.audit"),
    "sweep": (sweep_options, "inference.cli.runs.sweep"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: bad input is one sentence and exit code 2; an interruption is 130.

    An error that nobody foresaw is one sentence, too, and exit code 1; its traceback is kept.
    """
    for terminal in (sys.stdout, sys.stderr):
        if isinstance(terminal, io.TextIOWrapper):
            terminal.reconfigure(errors="replace")  # where it is not UTF-8
    try:
        with launch.exit_together(), launch.only_rank_zero_prints():
            dispatch(*(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
    except UserError as error:
        print(f"lowerbound: {printable(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if launch.rank() == 0:
            print("\nlowerbound: stopped; the same command with --resume goes on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # of lowerbound list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except Exception as error:
        print(f"lowerbound: {unforeseen(error)}", file=sys.stderr)
        sys.exit(1)


def unforeseen(error: Exception) -> str:
    """A sentence for an error that is not the user's, whose traceback is written to a file."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="lowerbound-", suffix=".txt", delete=False
    ) as file:
        traceback.print_exception(error, file=file)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return printable(
        f"{type(error).__name__} in {last.filename}, line {last.lineno}: {error or 'no message'} "
        f"(the whole traceback: {file.name})"
    ).replace("\n", " ")


def usage() -> str:
    """The help of ``lowerbound`` itself: a line for each command."""
    lines = (
        f"  lowerbound {name:<24}{registry.summary(command.options)}\n"
        for name, command in registry.commands().items()
    )
    return USAGE.format(commands="".join(lines))


def dispatch(command: str = "", *arguments: str) -> None:
    """Run a command; print the usage if there is none.

    Raises:
        UserError: there is no command of this name.
    """
    commands = registry.commands()
    if command in ("", "-h", "--help", "help"):
        print(usage(), end="")
        sys.exit(0 if command else 2)
    elif command == "--version":
        print(f"lowerbound {version('lowerbound')}")
    elif command in ("fit", "audit", "sweep"):
        on_recipe(command, arguments)
    elif command == "list":
        list_recipes()
    elif command in commands:
        kind, module = commands[command]
        chosen: object = parsed(kind, arguments, f"lowerbound {command}")
        importlib.import_module(module).run(chosen)
    else:
        known = ", ".join(("fit", "audit", "sweep", "list", *commands))
        raise UserError(f"no command {command!r}: give one of {known}")


def on_recipe(command: str, arguments: Sequence[str]) -> None:
    """Fit, audit or sweep the recipe of the first argument; print the usage if there is none."""
    if not arguments or arguments[0].startswith("-"):
        print(f"usage: lowerbound {command} RECIPE [options]; see lowerbound {command} vae --help")
        list_recipes()
        sys.exit(0 if arguments else 2)
    name, *flags = arguments
    source = registry.find(name)
    make, module = ON_RECIPES[command]
    chosen: object = parsed(make(source.options), with_data(flags), f"lowerbound {command} {name}")
    importlib.import_module(module).run(source, chosen)


def with_data(arguments: Sequence[str]) -> Sequence[str]:
    """Insert ``--data`` where the data follow the recipe: ``fit skipgram corpus.txt``."""
    alone = bool(arguments) and not arguments[0].startswith("-")
    return ["--data", *arguments] if alone else arguments


def parsed(kind: type[Options], arguments: Sequence[str], command: str) -> Options:
    """Parse the arguments into options.

    Raises:
        UserError: a number is out of its option's range.
    """
    options = tyro.cli(kind, args=arguments, prog=command)
    refuse_impossible(options)
    return options


def list_recipes() -> None:
    """Print the recipes, one a line."""
    for name, source in registry.recipes().items():
        print(f"  {name:<16} {registry.summary(source.options)}")
