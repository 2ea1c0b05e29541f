"""``lowerbound posterior``: draws of a run's posterior, for ArviZ."""

from __future__ import annotations

from rich.console import Console

from inference.cli.options import PosteriorOptions
from inference.data.columns import Columns
from inference.results.arviz_versions import GROUPS
from inference.results.run import Run
from inference.util.errors import UserError


def run(options: PosteriorOptions) -> None:
    """Draw, write the groups into the run's trace, print their variables.

    Raises:
        UserError: the run cannot be loaded, or has no data of this kind.
    """
    loaded = Run.load(options.run, recipe=options.recipe, device=options.device)
    data = loaded.valid if options.held_out else loaded.data
    if data is None:
        raise UserError(f"{options.run} has no held-out data: leave out --held-out")
    if options.rows is not None:
        data = Columns(data.rows(slice(0, options.rows)))
    tree = loaded.posterior(options.draws, data, options.seed, assign=options.assign)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for name in GROUPS:
        for variable, values in tree[name].to_dataset().items() if name in tree.children else ():
            dims = ", ".join(f"{dim} {count}" for dim, count in values.sizes.items())
            console.print(f"{name:<21} {variable} ({dims})")
    if "guide" in tree.children:
        khat = tree["guide"]["khat"]
        usable = f"usable below {khat.attrs['threshold']:.2f}"
        console.print(f"median k-hat of the guide {float(khat.median()):.2f} ({usable})")
    file = options.run / "trace.nc"
    console.print(f'in ArviZ: az.from_netcdf("{file}")')
