"""Small programs at random: discrete and Normal latents, reductions over leading dimensions."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

RARE = 9.2  # a logit of probability 1e-4
MOST_VALUES = 100  # assignments of all latents together
NODES = 32

# Whatever a program may make of a latent's (n,) value: one number
REDUCTIONS = {
    "sum": lambda z, w: z.sum(),
    "product with weights": lambda z, w: z @ w[: len(z)],
    "element": lambda z, w: z[-1],
    "softmax over the first dimension": lambda z, w: z.softmax(0) @ w[: len(z)],
    "running sum": lambda z, w: z.cumsum(0)[-1],
    "stack": lambda z, w: torch.stack([z[0], z[-1]]).prod(),
    "largest": lambda z, w: z.max(),
}


@dataclass(frozen=True)
class Latent:
    """A site of both programs: what it is, how long, which reduction feeds later sites."""

    name: str
    kind: str  # bits, category, normal, plate (of bits)
    size: int
    reduction: str
    weight: float
    parent: float  # of what came before, in its prior's parameter
    guide_parent: float
    start: tuple[float, ...]

    @property
    def values(self) -> int:
        return {"normal": NODES, "category": self.size}.get(self.kind, 2**self.size)

    def support(self) -> Tensor:
        """(values, …) all of a discrete latent."""
        if self.kind == "category":
            return torch.arange(self.size)
        return torch.tensor(list(itertools.product([0.0, 1.0], repeat=self.size)))

    def draw(self, parameter: Tensor) -> Tensor:
        """(n,) the latent as numbers."""
        if self.kind == "bits":
            return pyro.sample(self.name, dist.Bernoulli(logits=parameter).to_event(1))
        if self.kind == "plate":
            with pyro.plate(f"plate {self.name}", self.size):
                return pyro.sample(self.name, dist.Bernoulli(logits=parameter))
        if self.kind == "category":
            k = pyro.sample(self.name, dist.Categorical(logits=parameter))
            return torch.linspace(-1.0, 1.0, self.size)[k].reshape(-1)
        return pyro.sample(self.name, dist.Normal(parameter[0], parameter[1].exp())).reshape(-1)


@dataclass(frozen=True)
class RandomProgram:
    """A model of ``x`` and its guide."""

    latents: tuple[Latent, ...]
    weights: tuple[float, ...]

    def model(self, x: Tensor) -> None:
        """Latents in order, each with what came before in its parameter; then x."""
        weights, total = torch.tensor(self.weights), torch.zeros(())
        for latent in self.latents:
            length = 2 if latent.kind == "normal" else latent.size
            prior = torch.linspace(-0.5, 0.5, length) * (latent.kind != "normal")
            first = torch.eye(length)[0]
            z = latent.draw(prior + latent.parent * total * first)
            total = total + latent.weight * REDUCTIONS[latent.reduction](z, weights)
        slope = pyro.param("slope", torch.tensor(0.7))
        with pyro.plate("data", len(x), subsample=x):
            noise = torch.linspace(0.0, 1.0, len(x))
            pyro.sample("x", dist.Normal(slope * total + noise, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        """The same latents, with parameters of their own."""
        weights, total = torch.tensor(self.weights), torch.zeros(())
        for latent in self.latents:
            q = pyro.param(f"q {latent.name}", torch.tensor(latent.start))
            z = latent.draw(q + latent.guide_parent * total * torch.eye(len(q))[0])
            total = total + latent.weight * REDUCTIONS[latent.reduction](z, weights)

    @property
    def is_discrete(self) -> bool:
        return all(latent.kind != "normal" for latent in self.latents)

    def assignments(self) -> Iterator[dict[str, Tensor]]:
        """Name → value, for all joint values of discrete latents."""
        supports = [latent.support() for latent in self.latents]
        for values in itertools.product(*supports):
            yield dict(zip((latent.name for latent in self.latents), values, strict=True))

    @property
    def data(self) -> dict[str, Tensor]:
        return {"x": torch.tensor([0.3, -0.6, 1.4])}


def random_program(seed: int) -> RandomProgram:
    """The program of this number."""
    chance = random.Random(seed)
    latents: list[Latent] = []
    room = MOST_VALUES
    for i in range(chance.randint(1, 4)):
        kinds = ["bits", "category", "plate", *(["normal"] if room >= NODES else [])]
        kind = chance.choice(kinds)
        size = 1 if kind == "normal" else chance.randint(2, 3)
        latent = _latent(chance, f"z{i}", kind, size)
        if latent.values > room:
            break
        room //= latent.values
        latents.append(latent)
    weights = tuple(chance.uniform(-1, 1) for _ in range(3))
    return RandomProgram(tuple(latents), weights)


def _latent(chance: random.Random, name: str, kind: str, size: int) -> Latent:
    uniform = partial(chance.uniform, -1, 1)
    start = [uniform() for _ in range(2 if kind == "normal" else size)]
    if kind != "normal" and chance.random() < 0.4:  # near-deterministic
        start = [chance.choice([-1, 1]) * RARE for _ in start]
        if kind == "category":
            start = [RARE, *[0.0] * (size - 1)]
    parents = [chance.choice([0.0, uniform()]) for _ in range(2)]
    return Latent(
        name, kind, size, chance.choice(list(REDUCTIONS)), 2 * uniform(), *parents, tuple(start)
    )
