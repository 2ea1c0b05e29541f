"""Is ``estimator="auto"`` as good as the best fixed choice?  Has training the order of ``audit``?

python -m benchmarks.choice FOLDER [PROGRAM …]

For each program every estimator that takes it, and Pyro's Trace_ELBO, is trained with the same
number of model evaluations from the same starts.  The level is 90 % of the way from the start to
the best final bound.  A fit by auto is that of the estimator it chose; its curve is later by the
evaluations of the choice.  Kendall's τ is between the order by audit, after 100 steps, and the
order of the final bounds.  FOLDER/PROGRAM.json keeps what was found; the tables are of all there.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO
from scipy.stats import kendalltau
from torch import Tensor

from inference import audit, fit
from inference.recipes.contract import Recipe
from inference.recipes.glimpses import glimpses
from inference.recipes.glimpses.options import GlimpsesOptions
from inference.recipes.images import attention, sbn, vae
from inference.recipes.images.options import AttentionOptions, SBNOptions, VAEOptions
from inference.recipes.rationales import rationales
from inference.recipes.rationales.options import RationalesOptions
from inference.workflow.choosing.candidates import candidates

SEEDS = 2
BATCH = 50
PYRO = "Trace_ELBO"
SHARE = 0.9  # of the way from the start to the best bound
WINDOWS = 100  # of a curve


def mixture() -> Recipe:
    """Three Gaussians, whose assignments are drawn."""
    torch.manual_seed(0)
    size = 300
    x = torch.randn(size) + torch.tensor([-4.0, 0.0, 4.0])[torch.arange(size) % 3]

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor([-1.0, 0.1, 1.0]))
        with pyro.plate("data", size, subsample=x):
            z = pyro.sample("z", dist.Categorical(torch.ones(3) / 3))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)

    def guide(x: Tensor) -> None:
        w = pyro.param("w", torch.tensor([[-0.1, 0.0], [0.0, 0.0], [0.1, 0.0]]))
        with pyro.plate("data", size, subsample=x):
            pyro.sample("z", dist.Categorical(logits=x[:, None] * w[:, 0] + w[:, 1]))

    return Recipe(model, guide, {"x": x})


def factors() -> Recipe:
    """Counts of ten kinds, a sum of three Poisson numbers of events a row."""
    torch.manual_seed(0)
    size, kinds, count = 300, 10, 3
    events = torch.poisson(torch.full((size, count), 2.0))
    y = torch.poisson(events @ torch.rand(count, kinds).square() * 3 + 0.1)

    def model(y: Tensor) -> None:
        table = pyro.param("table", torch.rand(count, kinds) + 0.5, dist.constraints.positive)
        with pyro.plate("data", size, subsample=y):
            z = pyro.sample("z", dist.Poisson(torch.full((count,), 2.0)).to_event(1))
            pyro.sample("y", dist.Poisson(z @ table + 0.1).to_event(1), obs=y)

    def guide(y: Tensor) -> None:
        w = pyro.param("w", torch.zeros(kinds, count))
        c = pyro.param("c", torch.zeros(count))
        with pyro.plate("data", size, subsample=y):
            pyro.sample("z", dist.Poisson((y.log1p() @ w + c).clamp(-3, 3).exp()).to_event(1))

    return Recipe(model, guide, {"y": y})


def mixed() -> Recipe:
    """A bit, a category, a count and a Normal explain each row."""
    torch.manual_seed(0)
    size = 300
    b, c = (torch.rand(size) < 0.4).float(), torch.randint(3, (size,))
    x = torch.stack([2 * b + torch.randn(size), c + b + torch.randn(size)], -1)

    def model(x: Tensor) -> None:
        loc = pyro.param("loc", torch.tensor([-1.0, 0.0, 1.0]))
        w = pyro.param("weight", torch.tensor([1.0, 0.5, 0.2]))
        with pyro.plate("data", size, subsample=x):
            h = pyro.sample("h", dist.Normal(torch.zeros(len(x)), 1.0))
            b = pyro.sample("b", dist.Bernoulli(logits=h))
            c = pyro.sample("c", dist.Categorical(torch.ones(3) / 3))
            n = pyro.sample("n", dist.Poisson(torch.full((len(x),), 1.5)))
            mean = torch.stack([w[0] * b + w[1] * h, loc[c] + w[2] * n], -1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        w = pyro.param("w", torch.zeros(2, 7))
        with pyro.plate("data", size, subsample=x):
            out = x @ w
            pyro.sample("h", dist.Normal(out[:, 0], out[:, 1].exp()))
            pyro.sample("b", dist.Bernoulli(logits=out[:, 2]))
            pyro.sample("c", dist.Categorical(logits=out[:, 3:6]))
            pyro.sample("n", dist.Poisson(out[:, 6].clamp(-3, 3).exp()))

    return Recipe(model, guide, {"x": x})


PROGRAMS: dict[str, tuple[Callable[[], Recipe], int, float]] = {  # evaluations, learning rate
    "mixture": (mixture, 8_000, 1e-2),
    "Poisson factors": (factors, 8_000, 1e-2),
    "mixed": (mixed, 8_000, 1e-2),
    "belief network": (
        lambda: sbn.build(SBNOptions(data="digits", latent_dims=(32,))),
        16_000,
        3e-3,
    ),
    "hard attention": (lambda: attention.build(AttentionOptions()), 12_000, 5e-3),
    "VAE": (
        lambda: vae.build(VAEOptions(latent_dim=5, hidden=(50,))),
        6_000,
        1e-3,
    ),
    "glimpses": (
        lambda: glimpses.build(GlimpsesOptions(looks=3, width=32)),
        4_000,
        1e-3,
    ),
    "rationales": (lambda: rationales.build(RationalesOptions(width=16)), 4_000, 3e-3),
}


def measured(name: str) -> dict[str, Any]:
    """Curves of all estimators, decisions and audit of a program, as plain JSON types."""
    make, budget, rate = PROGRAMS[name]
    adam = partial(torch.optim.Adam, lr=rate)

    def trained(estimator: Any, steps: int, seed: int) -> Any:
        pyro.set_rng_seed(seed)  # the first weights, which a recipe draws
        made = make()
        options: dict[str, Any] = {"batch_size": BATCH, "seeds": [seed], "progress": False}
        return fit(made.model, made.guide, made.train, estimator, adam, steps=steps, **options)

    decisions = [trained("auto", 1, seed).config["choice"] for seed in range(SEEDS)]
    costs = {n: cost for n, (_, cost, rounds) in decisions[0]["efforts"].items() if rounds > 1}
    known: Mapping[str, ELBO] = candidates() | {PYRO: Trace_ELBO()}
    curves = {
        n: [curve(trained(known[n], budget // cost, seed), cost, budget) for seed in range(SEEDS)]
        for n, cost in (costs | {PYRO: 1}).items()
    }
    made = make()
    found = audit(
        *(made.model, made.guide, made.train, {n: known[n] for n in costs}),
        samples=100,
        batch_size=BATCH,
        at=100,
        optimizer=adam,
        progress=False,
    )
    efforts = {
        r.name: [r.second_moment * r.evaluations, r.variance * r.evaluations] for r in found.rows
    }
    return {"budget": budget, "decisions": decisions, "curves": curves, "efforts": efforts}


def curve(run: Any, cost: int, budget: int) -> list[float]:
    """The training bound, nats per datum, in windows of equal numbers of evaluations."""
    svi = run.trace["svi"].to_dataset()
    at = svi["step"].to_numpy() * cost
    window = np.minimum((at - 1) * WINDOWS // budget, WINDOWS - 1)
    values = svi["elbo"].to_numpy()[0]
    return [float(values[window == w].mean()) for w in range(WINDOWS)]


def row(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of one program: evaluations to the level, fixed and chosen; order of audit and training."""
    curves = {n: np.array(c) for n, c in found["curves"].items()}
    fixed = {n: c for n, c in curves.items() if n != PYRO}
    final = {n: float(c[:, -10:].mean()) for n, c in curves.items()}
    start = max(float(c[:, 0].mean()) for c in fixed.values())
    level = start + SHARE * (max(final[n] for n in fixed) - start)
    reached = {n: [crossing(c, level) * found["budget"] for c in cs] for n, cs in curves.items()}
    best = min(fixed, key=lambda n: np.mean(reached[n]))
    auto = [
        reached[d["chosen"]][seed] + d["evaluations"] for seed, d in enumerate(found["decisions"])
    ]
    names = list(fixed)
    orders = {
        key: float(
            kendalltau([-found["efforts"][n][i] for n in names], [final[n] for n in names])[0]
        )
        for i, key in enumerate(("effort", "work"))
    }
    return {
        "level": level,
        "best": best,
        "best to level": float(np.mean(reached[best])),
        "chosen": sorted({d["chosen"] for d in found["decisions"]}),
        "chosen to level": float(np.mean(auto)) - decided(found),
        "auto to level": float(np.mean(auto)),
        "choice": decided(found),
        "Trace_ELBO to level": float(np.mean(reached[PYRO])),
        "tau": orders,
        "final": final,
    }


def decided(found: Mapping[str, Any]) -> float:
    """Evaluations of a decision, mean over seeds."""
    return float(np.mean([d["evaluations"] for d in found["decisions"]]))


def crossing(values: np.ndarray, level: float) -> float:
    """The share of the budget after which the smoothed curve first is above the level, or inf."""
    smooth = np.convolve(values, np.ones(5) / 5, "valid")
    above = np.flatnonzero(smooth >= level)
    return float(above[0] + 5) / WINDOWS if len(above) else math.inf


def main(folder: str, *names: str) -> None:
    """Measure these programs, keep what is found, print a row for each that is there."""
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    for name in names:
        (home / f"{name}.json").write_text(json.dumps(measured(name)))
        print(name, json.dumps(row(json.loads((home / f"{name}.json").read_text())), indent=1))
    print(
        "program | chosen | to the level: best fixed, chosen, with the choice, Trace_ELBO | "
        "τ of effort, of variance"
    )
    for name in PROGRAMS:
        if (file := home / f"{name}.json").exists():
            r = row(json.loads(file.read_text()))
            cells = [
                f"{r['best']} {r['best to level']:.0f}",
                *(
                    f"{r[k]:.0f}"
                    for k in ("chosen to level", "auto to level", "Trace_ELBO to level")
                ),
                *(f"{t:.2f}" for t in r["tau"].values()),
            ]
            print(f"| {name} | {', '.join(r['chosen'])} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
