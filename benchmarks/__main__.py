"""All benchmarks, or those named: python -m benchmarks [vae attention discrete sites …].

Table on the screen; figures in runs/bench/bench.json, picture in runs/bench/bench.png.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row

ALL = (
    "vae",
    "attention",
    "glimpses",
    "unpooling",
    "discrete",
    "sites",
    "vocabulary",
    "skip_gram",
    "seeds",
    "processes",
    "start",
)


def main(names: Sequence[str]) -> None:
    """Run the benchmarks; print and save the results."""
    unknown = set(names) - set(ALL)
    if unknown:
        print(f"no benchmark {unknown.pop()!r}: give some of {', '.join(ALL)}", file=sys.stderr)
        sys.exit(2)
    console = Console()
    console = console if console.is_terminal else Console(width=110)  # a log file has no width
    found: list[Row] = []
    folder = Path("runs/bench")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ALL:
        with console.status(f"measuring: {name}"):
            found += importlib.import_module(f"benchmarks.{name}").measure()
        save(found, folder)  # a long run that is stopped keeps what it has
    console.print(table(found))
    console.print(f"figures and picture: {folder}/bench.json, {folder}/bench.png")


def save(found: Sequence[Row], folder: Path) -> None:
    """Write figures and picture."""
    rows = [asdict(row) for row in found]
    (folder / "bench.json").write_text(json.dumps(rows, indent=2) + "\n")
    picture(found, folder / "bench.png")


def table(found: Sequence[Row]) -> Table:
    """A table of ratios, quartiles and goals."""
    out = Table(title="time a step, ours / the other's; both in turn, block by block")
    for heading in ("work", "ours / other", "ms / ms", "ratio (quartiles)", "goal"):
        out.add_column(heading, no_wrap=heading != "ours / other")
    for row in found:
        ratio = f"{row.ratio:.2f} ({row.low:.2f} – {row.high:.2f})"
        goal = f"≤ {row.goal:.3g} {'✓' if row.reached else '✗'}"
        times = f"{row.ours_ms:.1f} / {row.against_ms:.1f}"
        out.add_row(row.work, f"{row.ours} / {row.against}", times, ratio, goal)
    return out


def picture(found: Sequence[Row], path: Path) -> None:
    """Plot each ratio as a dot with its quartiles, the goal as a tick."""
    figure, axes = plt.subplots(figsize=(9, 0.8 + 0.32 * len(found)), layout="constrained")
    for y, row in enumerate(reversed(found)):
        colour = "tab:blue" if row.reached else "tab:red"
        axes.plot([row.low, row.high], [y, y], color=colour, lw=2)
        axes.plot(row.ratio, y, "o", color=colour)
        axes.plot(row.goal, y, "|", color="black", ms=14, mew=2)
    labels = [f"{row.work}: {row.ours} / {row.against}" for row in reversed(found)]
    axes.set_yticks(range(len(found)), labels)
    axes.set_xscale("log")
    axes.set_xlabel("time a step, ours / the other's (black: the goal; blue: reached)")
    axes.grid(axis="x", which="both", alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
