"""Gradient estimators, one family a file, each a ``pyro.infer.ELBO``."""

from inference.estimators.antithetic import ARM, DisARM
from inference.estimators.arms import ARMS
from inference.estimators.base import Estimator
from inference.estimators.baselines import MovingAverage, NeuralBaseline
from inference.estimators.carms import CARMS
from inference.estimators.control_variates import REBAR, RELAX
from inference.estimators.counts import CoupledDifference
from inference.estimators.exact import Exact
from inference.estimators.marginal import Marginal
from inference.estimators.multi_sample import IWAE, OVIS, VIMCO, DReG
from inference.estimators.pathwise import Pathwise
from inference.estimators.per_site import PerSite
from inference.estimators.relaxed import GumbelSoftmax
from inference.estimators.score_function import LeaveOneOut, ScoreFunction, VarGrad
from inference.estimators.straight_through import GumbelRao, ReinMax
from inference.estimators.wake_sleep import ReweightedWakeSleep
from inference.estimators.wrapped import DecayingAverage, Wrapped

__all__ = [
    "ARM",
    "ARMS",
    "CARMS",
    "IWAE",
    "OVIS",
    "REBAR",
    "RELAX",
    "VIMCO",
    "CoupledDifference",
    "DReG",
    "DecayingAverage",
    "DisARM",
    "Estimator",
    "Exact",
    "GumbelRao",
    "GumbelSoftmax",
    "LeaveOneOut",
    "Marginal",
    "MovingAverage",
    "NeuralBaseline",
    "Pathwise",
    "PerSite",
    "ReinMax",
    "ReweightedWakeSleep",
    "ScoreFunction",
    "VarGrad",
    "Wrapped",
]
