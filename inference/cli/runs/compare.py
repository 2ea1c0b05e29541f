"""``lowerbound compare``: the table of a comparison; its picture and tree."""

from __future__ import annotations

from inference.cli.options import CompareOptions
from inference.workflow.compare import compare_directories


def run(options: CompareOptions) -> None:
    """Print the table, keep picture and tree."""
    compare_directories(options.runs, options.out, options.level, options.under, options.recipe)
