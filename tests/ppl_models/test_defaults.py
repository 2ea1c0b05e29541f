"""What is not said: the programs' options by default, those of their papers."""

import inspect

import pytest

from ppl_models import (
    captioner,
    decoding,
    deconvolutional,
    density,
    glimpse_networks,
    glimpses,
    language,
    nce,
    regression,
    retina,
    skip_gram,
    support_vector,
)

DEFAULTS = {
    captioner.Captioner: {"embedding": 512, "hidden": 512, "attention": 256, "dropout": 0.5},
    captioner.SoftAttention: {"penalty": 1.0},
    captioner.HardAttention: {"entropy": 0.002, "expected": 0.5},
    decoding.beam_search: {
        "width": 1, "longest": 30, "length_penalty": 0.0, "unknown": False, "attention": "expected",
    },
    decoding.sample_captions: {"longest": 30, "unknown": False, "attention": "expected"},
    deconvolutional.Layer: {"pool": 1},
    deconvolutional.levels: {"same": False},
    deconvolutional.Deconvolutional: {"head": None, "weight": 1.0},
    density.DensityNCE: {"log_z": 0.0},
    glimpse_networks.DRAM: {"width": 256, "channels": (32, 32, 64)},
    glimpse_networks.RAM: {"width": 256},
    glimpses.Glimpses: {"targets": 1, "every": False, "end": None},
    language.WordScores: {"sparse": False},
    language.LogBilinear: {"sparse": False},
    language.Recurrent: {"dropout": 0.0, "sparse": False},
    nce.NCE: {"log_z": 0.0, "learn_log_z": False},
    regression.GaussianRegression: {"scale": 1.0},
    retina.Retina: {"scales": 1, "smooth": False},
    skip_gram.WordVectors: {"spread": 0.0},
    support_vector.Hinge: {"gamma": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("what", DEFAULTS, ids=lambda what: what.__name__)
def test_defaults(what):
    arguments = inspect.signature(what).parameters.values()
    assert {a.name: a.default for a in arguments if a.default is not a.empty} == DEFAULTS[what]
