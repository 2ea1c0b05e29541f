"""The report of a trained captioner: bounds, scores of splits, and an html page of captions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from inference.data.columns import Columns, slices
from inference.data.vocabulary import Vocabulary, tokenize
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.captions.data.pictures import NOWHERE, Captioned, Picture, Split
from inference.recipes.captions.options import CaptionerOptions
from inference.recipes.captions.report import page, scores
from inference.recipes.captions.report.attention import Example, plot_attention
from inference.recipes.captions.report.said import caption_at, example, search
from inference.recipes.contract import Figures
from inference.results import evaluate
from inference.results.run import Run
from inference.util import rng
from inference.util.progress import Bar
from ppl_models.captioner import Captioner, HardAttention, SoftAttention
from ppl_models.decoding import Captions

AT_ONCE = 50  # pictures
SHOWN = 8  # under each heading of the page


def report(
    run: Run,
    options: CaptionerOptions,
    captioned: Captioned,
    vocabulary: Vocabulary,
    test: Columns,
) -> Figures:
    """Test bound, perplexity, scores on valid and test, and attention of words for objects.

    Writes the vocabulary, a page of test captions and a picture of the first of them, beside the
    run.  Scores are those of the first seed.
    """
    test = run.place(test)
    figures = bounds(run, test) | aim(run, test)
    splits: tuple[Split, Split] = ("valid", "test")
    for split in splits:
        chosen = [i for i, picture in enumerate(captioned.pictures) if picture.split == split]
        pictures = [captioned.pictures[i] for i in chosen]
        said = say(run, options, test.tables["a"][torch.tensor(chosen)], f"captions, {split}")
        found = score_captions(said, pictures, vocabulary)
        figures |= {f"{name}, {split}": value for name, value in found.corpus.items()}
        if any(stops(caption) for picture in pictures for caption in picture.captions):
            counted = score_captions(said, pictures, vocabulary, stop=True).corpus
            bleu = [name for name in counted if name.startswith("BLEU")]
            figures |= {f"{name}, {split}, full stop counted": counted[name] for name in bleu}
    if run.directory is not None:
        vocabulary.save(run.directory / "vocabulary.json")
        examples = chosen_examples(options, said, pictures, vocabulary, found)
        title = f"{options.attention.capitalize()} attention on {options.data}"
        page.page(run.directory / "captions.html", title, figures, examples)
        plot_attention(next(iter(examples.values()))[0], run.directory / "caption.png")
    return figures


def chosen_examples(
    options: CaptionerOptions,
    said: Captions,
    pictures: Sequence[Picture],
    vocabulary: Vocabulary,
    found: scores.Scores,
) -> dict[str, list[Example]]:
    """Heading → examples for the page: captions with their pictures and CIDEr."""
    cider = found.each["CIDEr"]

    def shown(i: int) -> Example:
        figures = {"CIDEr": float(cider[i])}
        return example(pictures[i], caption_at(said, i), vocabulary, options.attention, figures)

    return {heading: list(map(shown, rows)) for heading, rows in page.choose(cider, SHOWN).items()}


def bounds(run: Run, test: Columns) -> Figures:
    """The test bound, nats per caption, and the perplexity per word that it bounds."""
    elbo = evaluate.importance_weighted_bound(run.programs[0], test.select(("a", "y")), 1)
    words = test.lengths["y"].sum()
    perplexity = math.exp(-float(elbo.double().sum()) / float(words))
    return {"test ELBO": elbo, "test perplexity per word, at most": perplexity}


def aim(run: Run, test: Columns) -> Figures:
    """How often words for an object attend to its location, where that is known.

    The captions are the references.  With soft attention, the largest weight counts.
    """
    if "places" not in test.tensors:
        return {}
    program, hits = run.programs[0], []
    model = program.model
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation():
        for rows in slices(len(test), 200):
            batch = test.rows(rows)
            looked = torch.stack(model(batch["a"], batch["y"]), 1).argmax(-1)
            places = batch["places"][:, : looked.shape[1]]
            hits.append((looked == places)[places != NOWHERE])
    chance = 1 / test.tables["a"].shape[1]
    return {
        f"object words that look there, % (chance {chance:.1%})": 100 * torch.cat(hits).double()
    }


def say(run: Run, options: CaptionerOptions, grids: Tensor, label: str) -> Captions:
    """The captions of pictures with these features (N, L, D), in parts that fit memory."""
    program, parts = run.programs[0], []
    captioner = captioner_of(run)
    with program.scope(), Bar(label, len(grids)) as bar:
        for rows in slices(len(grids), AT_ONCE):
            a = grids[rows].to(program.device, program.dtype)
            parts.append(search(captioner, a, options.beam, options.length_penalty))
            if bar.due or rows.stop == len(grids):
                bar.update(rows.stop)
    return Captions(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def score_captions(
    said: Captions, pictures: Sequence[Picture], vocabulary: Vocabulary, stop: bool = False
) -> scores.Scores:
    """BLEU, ROUGE-L and CIDEr beside all captions of each picture.

    Args:
        said: a caption for each picture, without punctuation.
        pictures: with their references.
        vocabulary: of ``said``.
        stop: count a final full stop as a word, in references that have one and in all generated
            captions, as in the references that Xu et al. 2015 published with their code.
    """
    end = ["."] * stop
    hypotheses = [vocabulary.decode(row).split() + end for row in said.words.tolist()]
    references = [
        [tokenize(caption) + end * stops(caption) for caption in picture.captions]
        for picture in pictures
    ]
    return scores.caption_scores(hypotheses, references)


def stops(caption: str) -> bool:
    """Whether a caption ends with a full stop."""
    return caption.rstrip().endswith(".")


def captioner_of(run: Run) -> Captioner:
    """The networks of the first seed."""
    model = run.programs[0].model
    assert isinstance(model, SoftAttention | HardAttention)
    return model.captioner
