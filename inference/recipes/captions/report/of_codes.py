"""The report of captions said of codes: perplexity, scores, and the words of the first pictures."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.data.columns import Columns, slices
from inference.data.vocabulary import Vocabulary
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.captions.data.pictures import Captioned
from inference.recipes.captions.options import ImagesCaptionsOptions
from inference.recipes.captions.report.figures import score_captions
from inference.recipes.captions.report.said import search
from inference.recipes.contract import Figures
from inference.results.run import Run
from inference.util import rng
from inference.util.files import write_json
from inference.util.progress import Bar
from ppl_models.decoding import Captions

AT_ONCE = 50  # pictures
SHOWN = 20  # captions kept as text


def report(
    run: Run,
    options: ImagesCaptionsOptions,
    captioned: Captioned,
    vocabulary: Vocabulary,
    test: Columns,
) -> Figures:
    """Scores of test captions, and the perplexity per word of −E_q log p(y | s), one draw of s."""
    test, program = run.place(test), run.programs[0]
    nats = said_nats(program, test)
    words = float(test.lengths["y"].sum())
    figures: Figures = {
        "test E log p(y | s)": nats,
        "test perplexity per word, at most": math.exp(-float(nats.double().sum()) / words),
    }
    chosen = [i for i, picture in enumerate(captioned.pictures) if picture.split == "test"]
    pictures = [captioned.pictures[i] for i in chosen]
    captions = say(program, options, test.tables["x"][torch.tensor(chosen)])
    found = score_captions(captions, pictures, vocabulary)
    figures |= {f"{name}, test": value for name, value in found.corpus.items()}
    if run.directory is not None:
        vocabulary.save(run.directory / "vocabulary.json")
        said = zip(pictures[:SHOWN], captions.words.tolist(), strict=False)
        examples = {picture.name: vocabulary.decode(row) for picture, row in said}
        write_json(run.directory / "captions.json", examples)
    return figures


def said_nats(program: Program, test: Columns) -> Tensor:
    """(N,) log p(y | s) of each caption, one draw of s from q(s | X)."""
    model: Any = program.model
    parts = []
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation(), torch.no_grad():
        for rows in slices(len(test), 200):
            batch = test.rows(rows)
            s = program.guide(batch["x"])
            trace = poutine.trace(model.head).get_trace(s, batch["y"])
            site = trace.nodes["y"]
            parts.append(site["fn"].log_prob(site["value"]).cpu())
    return torch.cat(parts)


def say(program: Program, options: ImagesCaptionsOptions, grids: Tensor) -> Captions:
    """The captions of pictures with these grids (N, C, h, w), of one draw of s each."""
    model: Any = program.model
    parts = []
    with (
        rng.forked(EVALUATION_SEED),
        program.scope(),
        program.evaluation(),
        torch.no_grad(),
        Bar("captions, test", len(grids)) as bar,
    ):
        for rows in slices(len(grids), AT_ONCE):
            x = grids[rows].to(program.device, program.dtype)
            a = model.head.locations(program.guide(x))
            parts.append(search(model.head.captioner, a, options.beam, options.length_penalty))
            if bar.due or rows.stop == len(grids):
                bar.update(rows.stop)
    return Captions(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))
