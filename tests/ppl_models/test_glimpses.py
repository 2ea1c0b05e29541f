"""Glimpses: bound and gradient are the equations', by enumeration and by quadrature."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from guides.label_aware import LabelAware
from guides.prior import Prior
from inference import audit
from inference.engine.program.program import Program
from inference.estimators import (
    REBAR,
    Exact,
    LeaveOneOut,
    MovingAverage,
    Pathwise,
    ScoreFunction,
)
from inference.results.evaluate import exact_evidence, importance_weighted_bound
from ppl_models.glimpse_networks import DRAM, RAM
from ppl_models.glimpses import Glimpses, Rewarded
from ppl_models.places import Anywhere, AtRandom, OnGrid
from ppl_models.retina import Retina

B, SIDE, CLASSES, WIDTH = 3, 9, 4, 6
generator = torch.Generator().manual_seed(3)
X = torch.rand(B, 1, SIDE, SIDE, generator=generator, dtype=torch.float64)
Y = torch.tensor([0, 3, 1])


def ram(places, looks=2, kind=Glimpses, smooth=False, **options):
    """A program whose places and classes are decided, so that looks matter."""
    torch.manual_seed(0)
    retina = Retina(3, smooth=smooth)
    where = {
        "grid": lambda: OnGrid(retina, WIDTH, 3),
        "anywhere": lambda: Anywhere(retina, WIDTH, 0.3),
        "narrowing": lambda: Anywhere(retina, WIDTH, 0.1, at_first=0.3),
    }
    model = kind(RAM((1, 3, 3), CLASSES, WIDTH), where[places](), looks, B, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)
    return model


def paths(model, looks=2, y=Y):
    """(log p(l | I), log p(y | l, I)), (paths, B) each, over all looks at the grid, by hand."""
    n, found = model.network, []
    patches = [X[:, :, r : r + 3, c : c + 3] for r in (0, 3, 6) for c in (0, 3, 6)]
    for path in itertools.product(range(9), repeat=looks):
        state, places = n.start(X), torch.zeros(B, dtype=torch.double)
        for cell in path:
            places = places + model.places.locate(state).log_softmax(-1)[:, cell]
            centre = torch.tensor([cell % 3 - 1, cell // 3 - 1]) * 2 / 3
            state = n.step(state, patches[cell], centre.double().expand(B, 2))
        found.append((places, n.say(state).log_softmax(-1)[torch.arange(B), y]))
    return [torch.stack(column) for column in zip(*found, strict=True)]


def gradients(loss, model):
    parameters = list(model.parameters())
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def test_the_bound_and_its_gradient_are_the_sum_over_all_looks():
    """Σ_l p(l | I) log p(y | l, I), and its derivative with both terms of the product rule."""
    model = ram("grid")
    places, said = paths(model)
    bound = (places.exp() * said).sum()
    loss = Exact(max_plate_nesting=1).differentiable_loss(model, Prior(model), X, Y)
    torch.testing.assert_close(loss, -bound)
    for found, expected in zip(gradients(loss, model), gradients(-bound, model), strict=True):
        torch.testing.assert_close(found, expected)


def test_bounds_are_below_the_evidence_and_grow_with_their_draws():
    model = ram("grid")
    places, said = paths(model)
    evidence = (places + said).logsumexp(0)
    program = Program(model, Prior(model))
    torch.testing.assert_close(exact_evidence(program, {"x": X, "y": Y}, rows=B), evidence)
    pyro.set_rng_seed(0)
    data = {"x": X.repeat(400, 1, 1, 1), "y": Y.repeat(400)}
    large = Glimpses(model.network, model.places, 2, 3 * 400)
    one, many = (
        importance_weighted_bound(Program(large, Prior(large)), data, k, progress=False)
        .reshape(400, B)
        .double()
        for k in (1, 20)
    )
    bound = (places.exp() * said).sum(0)
    assert bool(((one.mean(0) - bound).abs() < 4.5 * one.std(0) / 20).all())
    assert bool((one.mean(0) < many.mean(0)).all())
    assert bool((many.mean(0) < evidence + 4.5 * many.std(0) / 20).all())
    assert bool((bound < evidence - 0.01).all())  # there is something to gain


def test_a_label_said_after_every_look():
    """log p(y | l_0) + log p(y | l_0, l_1), the sum over looks of two programs of one and two."""
    every, last = ram("grid", every=True), ram("grid")
    first = Glimpses(last.network, last.places, 1, B)
    losses = [
        Exact(max_plate_nesting=1).differentiable_loss(m, Prior(m), X, Y)
        for m in (every, last, first)
    ]
    torch.testing.assert_close(losses[0], losses[1] + losses[2])


def quadrature(model, nodes=600):
    """E_l log p(y | l, I) of one look anywhere, by a midpoint rule over ±6 σ."""
    n, state = model.network, model.network.start(X)
    mean = torch.tanh(model.places.locate(state))[0]
    sigma = torch.as_tensor(model.places.sigma)
    step = 12 * sigma.item() / nodes
    line = (torch.arange(nodes, dtype=torch.double) + 0.5) * step - 6 * sigma.item()
    offset = torch.cartesian_prod(line, line)
    where = (mean.detach() + offset)[:, None].expand(-1, B, 2)
    density = dist.Normal(mean, sigma).log_prob(where[:, 0]).sum(-1).exp() * step**2
    patch, place = model.places.glimpse(X, where)
    said = n.say(n.step(state, patch, place)).log_softmax(-1)
    return (density[:, None] * said[:, torch.arange(B), Y]).sum()


def worst_z(model, estimator, expected, batches=150, copies=400):
    """Largest |z| of the mean gradient over parameters that have one."""
    large = Glimpses(model.network, model.places, model.looks, B * copies)
    x, y = X.repeat(copies, 1, 1, 1), Y.repeat(copies)
    found = []
    for _ in range(batches):
        loss = estimator.differentiable_loss(large, Prior(large), x, y) / copies
        found.append(torch.cat([g.flatten() for g in gradients(loss, model)]))
    samples = torch.stack(found)
    exact = torch.cat([g.flatten() for g in expected])
    spread = samples.std(0) / batches**0.5 + 1e-5 * exact.abs().max()
    return float(((samples.mean(0) - exact) / spread).abs().max())


CRITICAL = 5.5  # of some 300 parameters and six tests: family-wise error below 1e-4
CHEAPER = {"batches": 60, "copies": 200}


@pytest.mark.parametrize(
    "estimator",
    [LeaveOneOut(4), ScoreFunction(1, baseline=MovingAverage()), LeaveOneOut(2)],
    ids=["leave-one-out-4", "average", "leave-one-out-2"],
)
def test_one_look_anywhere_has_the_gradient_of_the_quadrature(estimator):
    model = ram("anywhere", looks=1)
    expected = gradients(-quadrature(model), model)
    pyro.set_rng_seed(1)
    assert worst_z(model, estimator, expected) < CRITICAL


@pytest.mark.parametrize("smooth", [False, True], ids=["sharp", "smooth"])
def test_a_learned_spread_of_places_has_the_gradient_of_the_quadrature(smooth):
    model = ram("narrowing", looks=1, smooth=smooth)
    assert model.places.sigma.item() == pytest.approx(0.3)
    expected = gradients(-quadrature(model, nodes=300), model)
    names = [name for name, _ in model.named_parameters()]
    assert expected[names.index("places.log_excess")].abs() > 0.01  # there is something to learn
    pyro.set_rng_seed(1)
    estimator = Pathwise(1) if smooth else LeaveOneOut(2)
    assert worst_z(model, estimator, expected, **CHEAPER) < CRITICAL


def test_a_spread_learned_without_its_density_is_caught():
    model = ram("narrowing", looks=1, smooth=True)
    expected = gradients(-quadrature(model, nodes=300), model)
    model.places.__class__ = UnchargedPlaces
    pyro.set_rng_seed(1)
    assert worst_z(model, Pathwise(1), expected, **CHEAPER) > 2 * CRITICAL


class UnchargedPlaces(Anywhere):
    """A slip: the spread has no gradient."""

    @property
    def sigma(self):
        return super().sigma.detach() + 0 * self.log_excess


class LeakingPlaces(Anywhere):
    """A common slip: the draw keeps its path into a crop that has none."""

    def forward(self, h, tilt=0.0):
        mean = torch.tanh(self.locate(h)) + tilt
        return dist.Normal(mean, self.sigma).to_event(1)


def test_a_draw_with_a_path_into_whole_pixels_is_caught():
    model = ram("anywhere", looks=1)
    expected = gradients(-quadrature(model), model)
    model.places.__class__ = LeakingPlaces
    pyro.set_rng_seed(1)
    assert worst_z(model, Pathwise(4), expected) > 2 * CRITICAL


def test_a_draw_in_its_own_density_has_no_gradient():
    """log N(μ + σε; μ) does not depend on μ: why places carry no path."""
    mean = torch.zeros(2, requires_grad=True)
    q = dist.Normal(mean, 0.3)
    (undetached,) = torch.autograd.grad(q.log_prob(q.rsample()).sum(), mean)
    assert torch.equal(undetached, torch.zeros(2))
    assert not Anywhere(Retina(3), 2, 0.3)(torch.ones(5, 2)).has_rsample


def test_a_smooth_retina_gives_the_pathwise_gradient_of_the_quadrature():
    model = ram("anywhere", looks=1, smooth=True)
    expected = gradients(-quadrature(model), model)
    pyro.set_rng_seed(1)
    assert worst_z(model, Pathwise(1), expected) < CRITICAL


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [ScoreFunction(1), ScoreFunction(1, baseline=MovingAverage()), LeaveOneOut(3), REBAR(1)],
    ids=["score", "average", "leave-one-out", "REBAR"],
)
def test_two_looks_at_a_grid_are_unbiased_by_enumeration(estimator):
    model = ram("grid")
    result = audit(
        model,
        Prior(model),
        {"x": X, "y": Y},
        [estimator],
        batch_size=None,
        samples=2_000,
        precision="float64",
        progress=False,
    )
    assert not any(row.biased for row in result.rows), result


def test_a_label_aware_guide_begins_at_the_prior_and_knows_the_label():
    model = ram("grid")
    guide = LabelAware(model, CLASSES).double()
    exact = Exact(max_plate_nesting=1)
    prior = exact.differentiable_loss(model, Prior(model), X, Y)
    torch.testing.assert_close(exact.differentiable_loss(model, guide, X, Y), prior)
    optimizer = torch.optim.Adam(guide.tilt.parameters(), 0.005)
    for _ in range(40):
        optimizer.zero_grad()
        loss = exact.differentiable_loss(model, guide, X, Y)
        loss.backward()
        optimizer.step()
    places, said = paths(model)
    evidence = (places + said).logsumexp(0).sum()
    gap = evidence + prior  # KL(p(l | I) ‖ p(l | I, y)), all but closed
    assert 0 < evidence + loss < 0.1 * gap


def test_the_reward_has_the_papers_gradient():
    """∇log p(y | l) + λ R ∇log p(l), in expectation over all looks; its value is λ (R − 1)."""
    weight = 0.7
    model = ram("grid", kind=Rewarded, weight=weight)
    places, said = paths(model)
    right = rewards(model)
    loss = Exact(max_plate_nesting=1).differentiable_loss(model, Prior(model), X, Y)
    torch.testing.assert_close(loss, -(places.exp() * weight * (right - 1)).sum())
    chosen = places.exp().detach()
    surrogate = (chosen * (said + weight * (right - 1) * places)).sum()
    for found, expected in zip(gradients(loss, model), gradients(-surrogate, model), strict=True):
        torch.testing.assert_close(found, expected)


def rewards(model):
    """(paths, B) 1 where the most probable class is y."""
    said = torch.stack([paths(model, y=torch.full((B,), label))[1] for label in range(CLASSES)])
    return (said.argmax(0) == Y).double()


def dram(context, **options):
    torch.manual_seed(0)
    network = DRAM((1, 7, 7), CLASSES, (1, 7, 7) if context else None, WIDTH, (2, 2, 2))
    return Glimpses(network, AtRandom(Retina(7)), 2, B, **options).double()


def test_what_dram_says_rests_on_glimpses_alone():
    x = torch.rand(B, 1, 20, 20, dtype=torch.float64)
    model = dram(context=True)
    centre = {f"l_{t}": torch.zeros(B, 2, dtype=torch.float64) for t in range(2)}
    around = x.clone()
    around[:, :, :5] = 1 - around[:, :, :5]  # beyond the glimpses
    looks = [poutine.condition(model, centre)(image) for image in (x, around)]
    assert all(torch.equal(a.logits, b.logits) for a, b in zip(*looks, strict=True))
    aims = [model.network.aim(model.network.start(image)) for image in (x, around)]
    assert not torch.equal(*aims)
    blind = dram(context=False).network
    assert torch.equal(*(blind.aim(blind.start(image)) for image in (x, around)))


def test_nothing_is_said_after_the_end_of_a_sequence():
    x = torch.rand(B, 1, 20, 20, dtype=torch.float64)
    y = torch.tensor([[0, 3, 3], [3, 3, 3], [1, 2, 3]])
    model = dram(context=True, targets=3, end=3)
    trace = poutine.trace(model).get_trace(x, y)
    trace.compute_log_prob()
    counted = torch.stack([trace.nodes[f"y_{s}"]["log_prob"] != 0 for s in range(3)], 1)
    assert counted.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert len([name for name in trace.nodes if name.startswith("l_")]) == 6


@pytest.mark.parametrize("places", ["grid", "anywhere"])
def test_draws_together_are_draws_one_by_one(places):
    """Broadcast-safe: the program under a plate of draws says what it says of each alone."""
    model = ram(places)
    with pyro.plate("draws", 5, dim=-2):
        together = poutine.trace(model).get_trace(X)
    found = together.nodes["_RETURN"]["value"]
    for k in range(5):
        values = {f"l_{t}": together.nodes[f"l_{t}"]["value"][k] for t in range(2)}
        alone = poutine.condition(model, values)(X)
        for one, many in zip(alone, found, strict=True):
            torch.testing.assert_close(one.logits, many.logits[k])
