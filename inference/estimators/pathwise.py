"""Gradients through the draws: z = g(φ, ε), so ∇E_q f(z) = E_ε ∇f(g(φ, ε)).

Kingma & Welling 2014 and Rezende et al. 2014; without the score term: Roeder et al. 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from inference.estimators.base import Estimator
from inference.estimators.ledger import Ledger, read_ledger
from inference.estimators.programs import ModelAndGuide, TracePair, detached
from inference.util.sites import distribution_name

INSTEAD = "LeaveOneOut(num_particles=4) or ScoreFunction()"


class Pathwise(Estimator):
    """Reparameterised gradient of the ELBO.

    >>> import pyro, pyro.distributions as dist, torch
    >>> m = torch.tensor(2.0, requires_grad=True)
    >>> model = lambda: pyro.sample("z", dist.Normal(0.0, 1.0))
    >>> guide = lambda: pyro.sample("z", dist.Normal(m, 1.0))
    >>> loss = Pathwise(kl="analytic").differentiable_loss(model, guide)  # KL = m²/2
    >>> loss.item(), torch.autograd.grad(loss, m)[0].item()
    (2.0, 2.0)

    ``∇ [log p(x, z) − log q(z)]`` at z = g(φ, ε).  Unbiased; one model evaluation a particle;
    reparameterised sites only.

    Args:
        kl: "sampled", or "analytic": KL(q_i ‖ p_i) in closed form for every site where torch has it
            and p_i depends on no later draw; sampled for the other sites.
        sticking_the_landing: leave out the score ``∂_φ log q_φ(z)`` at fixed z, of mean zero;
            without it the gradient vanishes at q = p(z | x) (Roeder et al. 2017, equation 8).  One
            more run of both programs.

    Raises:
        UserError: a site is not reparameterised.
        ValueError: both options at once: a closed-form KL has no score to leave out.
    """

    def __init__(
        self,
        num_particles: int = 1,
        *,
        kl: Literal["sampled", "analytic"] = "sampled",
        sticking_the_landing: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(num_particles, **options)
        if sticking_the_landing and kl == "analytic":
            raise ValueError("sticking_the_landing works on the sampled KL")
        self.kl, self.sticking_the_landing = kl, sticking_the_landing

    def estimate(
        self, programs: ModelAndGuide, draws: Sequence[TracePair]
    ) -> tuple[Tensor, Tensor]:
        """(bound, surrogate)."""
        ledger = read_ledger(draws)
        ledger.require_reparameterised("Pathwise", INSTEAD)
        elbo = ledger.elbo().mean()
        if self.kl == "analytic":
            gains = [closed_form_gain(model, guide, ledger) for model, guide in draws]
            elbo = elbo + sum(gains) / self.num_particles
        if not self.sticking_the_landing:
            return elbo, elbo
        ledger.refuse_factors("Pathwise(sticking_the_landing=True)", "Pathwise()")
        fixed = read_ledger([programs.run(detached(guide)) for _, guide in draws])
        return elbo, elbo - fixed.elbo(of_guide=True).mean()


def closed_form_gain(model_trace: Trace, guide_trace: Trace, ledger: Ledger) -> Tensor | float:
    """Σ_i (sampled KL − closed-form KL) over the sites that have one; 0 if none has."""
    order = {t.name: t.time for t in ledger.terms if not t.of_guide}
    gain: Tensor | float = 0.0
    for choice in ledger.choices:
        if order.get(choice.name) == choice.time:  # p_i depends on nothing drawn after z_i
            q, p = guide_trace.nodes[choice.name], model_trace.nodes[choice.name]
            closed = _closed_form(q, p)
            if closed is not None:
                gain = gain + q["log_prob_sum"] - p["log_prob_sum"] - closed
    return gain


def _closed_form(q: Any, p: Any) -> Tensor | None:
    if distribution_name(q["fn"]) == "Delta":  # torch's closed form ignores its log_density
        return None
    if not _same(q["scale"], p["scale"]) or not _same(q["mask"], p["mask"]):
        return None
    try:
        kl = kl_divergence(q["fn"], p["fn"])
    except NotImplementedError:
        return None
    weighted: Tensor = scale_and_mask(kl, q["scale"], q["mask"])
    return weighted.sum()


def _same(a: Any, b: Any) -> bool:
    both_numbers = isinstance(a, float | int | bool) and isinstance(b, float | int | bool)
    return a is b or (both_numbers and a == b)
