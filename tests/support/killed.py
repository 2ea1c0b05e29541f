"""The training that test_resume kills: python -m tests.support.killed DIRECTORY [compile]."""

import sys

from inference import fit
from inference.engine.training.schedules import cosine, warm_up
from inference.recipes.images.vae import Options, build


def main(directory, compiled):
    recipe = build(Options(latent_dim=3, hidden=(16,), binarize="dynamic"))
    fit(
        recipe.model,
        recipe.guide,
        recipe.train,
        epochs=12,
        batch_size=64,
        seeds=2,
        schedule=cosine,
        anneal=warm_up(0.3),
        clip_norm=50.0,
        valid=recipe.valid,
        patience=8,
        directory=directory,
        resume=True,
        checkpoint_every=0.02,
        compile=compiled,
        progress=False,
    )


if __name__ == "__main__":
    import pyro

    pyro.set_rng_seed(0)  # the initial weights
    main(sys.argv[1], sys.argv[2:] == ["compile"])
