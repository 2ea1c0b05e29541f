"""Planted bugs, the classic ones: each must make the tests fail.  Prints a table."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[3]
HOME = "inference/estimators"
SOURCE = 'value = _full_rank(site["log_prob"], rank)'

BUGS = {
    "wrong sign": ("score_function.py", "(per_particle(centred", "(-per_particle(centred"),
    "signal not detached": (
        "ledger.py",
        "term.value.detach() if detach else term.value",
        "term.value",
    ),
    "baseline sees its own sample": (
        "baselines.py",
        "        return baseline\n",
        "        return signal.mean()\n",
    ),
    "signals summed over the batch": (
        "ledger.py",
        "keep_plates(total, dict(p), choice.plates)",
        "keep_plates(total, dict(p), ())",
    ),
    "temperature forgotten": ("relaxed.py", "scaled = z / temperature", "scaled = z * 1.0"),
    "leave-one-out includes itself": (
        "score_function.py",
        "(signal.sum(0, keepdim=True) - signal) / (self.num_particles - 1)",
        "signal.mean(0, keepdim=True)",
    ),
    "VarGrad without the others": (
        "score_function.py",
        "VarGrad = LeaveOneOut",
        "VarGrad = ScoreFunction",
    ),
    "weights normalised over the batch": (
        "multi_sample.py",
        "return self.log_weights().detach().softmax(0)",
        "w = self.log_weights().detach(); return w.flatten().softmax(0).reshape(w.shape)",
    ),
    "subsample scale dropped": (
        "ledger.py",
        SOURCE,
        'value = _full_rank(site["log_prob"] / site["scale"], rank)',
    ),
    "mask ignored": (
        "ledger.py",
        SOURCE,
        'value = _full_rank(site["unscaled_log_prob"] * site["scale"], rank)',
    ),
    "reward-to-go off by one": (
        "ledger.py",
        "for term in due[choice.time]:",
        "for term in due[choice.time + 1]:",
    ),
    "plates side by side weighed together": (
        "coupling.py",
        "plates = frozenset(shared_plates(ledger.only(names)))",
        "plates = frozenset()",
    ),
    "coupling through a latent missed": (
        "coupling.py",
        "[new.union(*touching)]",
        "[new]",
    ),
    "VIMCO's mean includes itself": (
        "multi_sample.py",
        "(log_w.sum(0, keepdim=True) - log_w) / (self.particles - 1)",
        "log_w.mean(0, keepdim=True).expand(log_w.shape)",
    ),
    "OVIS's γ everywhere": (
        "multi_sample.py",
        "self.gamma * (even + units.shares())",
        "(even + self.gamma * units.shares())",
    ),
    "OVIS's others include itself": (
        "multi_sample.py",
        "log_w[None].masked_fill(_eye(log_w), -math.inf)",
        "log_w[None].expand(len(log_w), *log_w.shape)",
    ),
    "DisARM without the absolute value": ("antithetic.py", "logits.abs()", "logits"),
    "ARMS without its correction": (
        "arms.py",
        "return (1 - q) / (1 - both_rare(q, count) / q.clamp(min=torch.finfo(q.dtype).tiny))",
        "return torch.ones_like(q)",
    ),
    "ARMS drawn without the first": (
        "arms.py",
        "(first != likely).to(logits)",
        "torch.bernoulli(q)",
    ),
    "CARMS as if categories passed were independent": (
        "carms.py",
        "by_place = before * correction",
        "by_place = correction",
    ),
    "CARMS's unseen bits never 1": (
        "carms.py",
        "torch.where(behind, beyond,",
        "torch.where(behind, 0,",
    ),
    "marginal's values weighed alike": (
        "marginal.py",
        "inner.log_prob(other).exp() * beside",
        "inner.log_prob(other) * beside",
    ),
    "marginal's coupling missed": (
        "ledger.py",
        "if term.time >= choice.time and outside:",
        "if False:",
    ),
    "one more count of the rate's own": (
        "counts.py",
        "torch.ones_like(value), inner.rate",
        "torch.ones_like(value), inner.rate.log()",
    ),
    "a geometric success not counted": ("counts.py", "-(value + 1) * inner", "-value * inner"),
    "a binomial trial always added": ("counts.py", "* count < value", "* count < 0"),
    "a path where the score is asked for": (
        "per_site.py",
        '{"has_rsample": False}',
        "{}",
    ),
    "sticking the landing added": (
        "pathwise.py",
        "elbo - fixed.elbo(of_guide=True)",
        "elbo + fixed.elbo(of_guide=True)",
    ),
    "DReG with single weights": ("multi_sample.py", "share**2 * units", "share * units"),
    "REBAR's path not taken back": (
        "control_variates.py",
        "dc_dz - through_z_given_b",
        "dc_dz",
    ),
    "a plate entered again forgotten": (
        "ledger.py",
        "            running = _for_earlier_choices(running, choice.plates)\n",
        "",
    ),
    "a term outside moved once an element": (
        "control_variates.py",
        "self.scale * total",
        "self.scale * f_relaxed.sum()",
    ),
    "the prior's log p kept": (
        "ledger.py",
        "if t.name not in from_prior]",
        "]",
    ),
    "closed-form KL out of order": (
        "pathwise.py",
        "order.get(choice.name) == choice.time",
        "choice.name in order",
    ),
}


def plant(name: str, to: Path) -> None:
    """A copy of the project with one line wrong."""
    file, right, wrong = BUGS[name]
    for folder in ("inference", "ppl_models", "guides", "tests"):
        shutil.copytree(ROOT / folder, to / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)
    target = to / HOME / file
    text = target.read_text()
    assert text.count(right) == 1, f"{name}: {right!r} is not in {file} once"
    target.write_text(text.replace(right, wrong))


def first_failure(project: Path) -> str:
    """The test that notices, or nothing."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    ended = subprocess.run(
        [*command, f"tests/{HOME}", f"--ignore=tests/{HOME}/test_mutations.py"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^FAILED \S+::(\S+)", ended.stdout, re.MULTILINE)
    assert ended.returncode in (0, 1), ended.stdout[-2000:]
    return found.group(1) if found else ""


@pytest.mark.parametrize("name", BUGS)
def test_the_line_to_spoil_is_there(name):
    file, right, wrong = BUGS[name]
    assert (ROOT / HOME / file).read_text().count(right) == 1
    assert right != wrong


@pytest.mark.slow
def test_every_planted_bug_is_noticed(tmp_path):
    table = Table("planted bug", "noticed by", title="mutation check")
    noticed = {}
    for number, name in enumerate(BUGS):
        plant(name, tmp_path / str(number))
        noticed[name] = first_failure(tmp_path / str(number))
        table.add_row(name, noticed[name] or "nothing!")
    Console(width=100, stderr=True).print(table)
    assert all(noticed.values()), [name for name, test in noticed.items() if not test]
