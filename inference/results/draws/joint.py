"""K joint draws of guide and model."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from inference.results.draws.sites import Sites, joined


@dataclass(frozen=True)
class Draws:
    """Draws of the guide, and the model replayed on each.

    Attributes:
        count: K.
        guide, model: the sites of both, see ``Site``.
        sums: sites that depend on enumerated latents, after these are summed out.
        predicted: observed sites drawn from the model, and latents that only the model draws.
        summed: names of the enumerated latents.
    """

    count: int
    guide: Sites
    model: Sites
    sums: Sites = field(default_factory=dict)
    predicted: Sites = field(default_factory=dict)
    summed: frozenset[str] = frozenset()

    def sides(self) -> tuple[tuple[str, Sites], ...]:
        """Part → its sites."""
        parts = ("guide", "model", "sums", "predicted")
        return tuple((part, getattr(self, part)) for part in parts)

    def values(self, k: int) -> dict[str, Tensor]:
        """Site → (batch …, event …) its value in draw k, for ``Fixed``."""
        return {
            name: site.value[k if len(site.value) > 1 else 0]
            for sites in (self.predicted, self.guide)
            for name, site in sites.items()
            if site.value is not None and site.kind == "latent" and not site.is_delta
        }


def concatenated(parts: list[Draws]) -> Draws:
    """The draws of several chunks as one, on the host."""
    counts = [part.count for part in parts]
    sides = {
        side: joined([dict(part.sides())[side] for part in parts], counts)
        for side, _ in parts[0].sides()
    }
    return Draws(sum(counts), summed=parts[0].summed, **sides)
