"""The table of the catalogue.

python -m tests.programs.table [NAME …] [--facet NAME …] >> cells.txt   # equal, refused, WRONG
python -m tests.programs.table --write docs/programs.md < cells.txt
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from inference import UserError
from tests.programs import PROGRAMS, Program
from tests.support.against_pyro import FACETS

Cells = Mapping[tuple[str, str], tuple[str, str]]  # (program, facet) → (verdict, sentence)
HEAD = """# Programs like Pyro's own, held against Pyro

Written by `python -m tests.programs.table`; `tests/support/against_pyro` says what each column
compares.  "equal": ours gives Pyro's numbers (exactly under the same seed, draws in distribution);
a number names the sentence below that refuses the program; "WRONG" is a fault; "–" was not run.
"audit" equal: the gradients that the audit measures are Pyro's, draw by draw; its exact gradient,
where there is one, lies as near to the mean of 500 of Pyro's as is said; and a planted bias of as
many % of the gradient is called one, where Pyro's own gradient is not.
"""


def cell(program: Program, facet: str) -> tuple[str, str]:
    """(equal | refused | WRONG, the sentence; of what is equal, how sharply it was looked at)."""
    try:
        said = FACETS[facet](program)
    except UserError as refused:
        return "refused", str(refused)
    except Exception as error:
        return "WRONG", f"{type(error).__name__}: {error}"
    return "equal", said or ""


def run(names: Iterable[str], facets: Iterable[str]) -> None:
    """One line a cell: program|facet|verdict|seconds|sentence."""
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    for name in names:
        for facet in facets:
            start = time.perf_counter()
            verdict, sentence = cell(PROGRAMS[name], facet)
            seconds = f"{time.perf_counter() - start:.2f}"
            print("|".join((name, facet, verdict, seconds, " ".join(sentence.split()))), flush=True)


def read(lines: Iterable[str]) -> Cells:
    """The cells of earlier runs, the last of each."""
    parts = [line.rstrip("\n").split("|", 4) for line in lines if line.count("|") >= 4]
    return {(p[0], p[1]): (p[2], p[4]) for p in parts if p[0] in PROGRAMS and p[1] in FACETS}


def page(cells: Cells) -> str:
    """The table, then every refusal and fault by its number."""
    notes: dict[str, int] = {}
    rows = [f"| program | {' | '.join(FACETS)} |", "|---" * (1 + len(FACETS)) + "|"]
    for name, program in PROGRAMS.items():
        row = []
        for facet in FACETS:
            verdict, sentence = cells.get((name, facet), ("–", ""))
            row.append(_said(verdict, sentence, notes))
        rows.append(f"| {program.title} (`{program.family}.{name}`) | {' | '.join(row)} |")
    told = [f"{number}. {sentence}" for sentence, number in notes.items()]
    return "\n".join((HEAD, *rows, "", *told, ""))


def _said(verdict: str, sentence: str, notes: dict[str, int]) -> str:
    """A cell's words; a refusal's or fault's sentence goes to the notes."""
    if verdict == "equal":
        return f"equal; {sentence}" if sentence else "equal"
    if not sentence:
        return verdict
    number = notes.setdefault(sentence, len(notes) + 1)
    return str(number) if verdict == "refused" else f"WRONG ({number})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--facet", nargs="*", default=list(FACETS))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.write:
        options.write.write_text(page(read(sys.stdin)))
    else:
        run(options.names or PROGRAMS, options.facet)


if __name__ == "__main__":
    main()
