"""The table of the catalogue: python -m tests.programs.table [NAME …] [--facet NAME …] [--write].

Each cell says "equal", "refused" or "WRONG"; refusals and what is wrong are printed below it.
"""

import argparse
import time
import warnings

import torch

from inference import UserError
from tests.programs import PROGRAMS, Program
from tests.support.against_pyro import FACETS


def cell(program: Program, facet: str) -> tuple[str, str]:
    """(equal | refused | WRONG, the sentence)."""
    try:
        FACETS[facet](program)
    except UserError as refusal:
        return "refused", str(refusal)
    except Exception as error:
        return "WRONG", f"{type(error).__name__}: {error}"
    return "equal", ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(PROGRAMS))
    parser.add_argument("--facet", nargs="*", default=list(FACETS))
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    for name in options.names or PROGRAMS:
        for facet in options.facet:
            start = time.perf_counter()
            verdict, sentence = cell(PROGRAMS[name], facet)
            first = sentence.strip().splitlines()[0] if sentence.strip() else ""
            print(f"{name}|{facet}|{verdict}|{time.perf_counter() - start:.2f}|{first[:230]}", flush=True)


if __name__ == "__main__":
    main()
