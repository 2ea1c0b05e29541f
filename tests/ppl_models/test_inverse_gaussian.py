"""The inverse Gaussian: its density, its draws and their gradient, against quadrature."""

import pytest
import torch

from ppl_models.inverse_gaussian import InverseGaussian, slopes

CASES = [(0.4, 1.0), (1.0, 0.3), (3.0, 2.0)]
GRID = torch.linspace(-30, 9, 60_001, dtype=torch.double)  # of log x


def integral(f, q):
    """∫ f(x) q(x) dx, by the trapezoidal rule on log x."""
    x = GRID.exp()
    return torch.trapezoid(f(x) * q.log_prob(x).exp() * x, GRID)


def parameters(case):
    return [torch.tensor(v, dtype=torch.double, requires_grad=True) for v in case]


@pytest.mark.parametrize("case", CASES)
def test_density_and_moments(case):
    q = InverseGaussian(*(torch.tensor(v) for v in case))
    for f, expected in (
        (torch.ones_like, 1.0),
        (lambda x: x, q.mean),
        (lambda x: (x - q.mean) ** 2, q.variance),
    ):
        torch.testing.assert_close(integral(f, q), torch.as_tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_draws_have_the_distribution(case):
    """Kolmogorov's distance at 10⁵ draws; its 1 − 10⁻⁶ quantile is 2.7/√n."""
    torch.manual_seed(0)
    q = InverseGaussian(*(torch.tensor(v) for v in case))
    n = 100_000
    draws = q.sample((n,)).sort().values
    x = GRID.exp()
    cumulative = torch.cumulative_trapezoid(q.log_prob(x).exp() * x, GRID)
    at = torch.searchsorted(x[1:].contiguous(), draws).clamp(max=len(cumulative) - 1)
    distance = (cumulative[at] - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 2.7 / n**0.5


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["mean", "logarithm", "bounded"])
def test_gradient_of_an_expectation(case, name):
    """d/d(m, c) of E f, within 4.5 standard errors: 18 numbers, family-wise 10⁻⁴."""
    f = {"mean": lambda x: x, "logarithm": torch.log, "bounded": lambda x: 1 / (1 + x**2)}[name]
    m, c = parameters(case)
    exact = torch.stack(torch.autograd.grad(integral(f, InverseGaussian(m, c)), [m, c]))
    torch.manual_seed(1)
    n = 200_000
    many = [p.detach().expand(n).clone().requires_grad_() for p in (m, c)]
    value = f(InverseGaussian(*many).rsample()).sum()
    found = torch.stack(torch.autograd.grad(value, many))
    z = (found.mean(1) - exact) / (found.std(1) / n**0.5 + 1e-9)
    assert bool((z.abs() < 4.5).all()), z


def test_a_path_through_the_chosen_root_is_caught():
    """The usual slip: to differentiate the root, as if the choice between the two had a path."""
    m = torch.tensor(1.0, requires_grad=True)
    exact = torch.autograd.grad(integral(torch.log, InverseGaussian(m, torch.tensor(1.0))), m)[0]
    torch.manual_seed(1)
    n = 200_000
    many = m.detach().expand(n).clone().requires_grad_()
    x = InverseGaussian._draw(many, torch.ones(n))
    (found,) = torch.autograd.grad(x.log().sum(), many)
    assert (found.mean() - exact).abs() > 20 * found.std() / n**0.5


def test_slopes_scale_with_the_distribution():
    """t · IG(m, c) is IG(tm, tc): m dx/dm + c dx/dc = x, far out in both tails, too."""
    x = torch.logspace(-6, 4, 50)
    m, c = torch.tensor(0.7), torch.tensor(3.0)
    to_m, to_c = slopes(x, m, c)
    torch.testing.assert_close(m * to_m + c * to_c, x)
    assert bool((to_m > 0).all())
