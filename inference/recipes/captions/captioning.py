"""What a trained captioner says: scores and a page of a whole split, captions of any picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import OneHotCategorical

from inference.data.columns import Columns, slices
from inference.data.vocabulary import Vocabulary, tokens
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.captions.captioner import default_encoder
from inference.recipes.captions.data.encoders import load_encoder
from inference.recipes.captions.data.pictures import NOWHERE, Captioned, Picture
from inference.recipes.captions.report import caption_page, scores
from inference.recipes.captions.report.attention_pictures import Example, draw
from inference.results import evaluate
from inference.util import rng
from inference.util.errors import UserError
from inference.util.files import load_checkpoint, read_json
from inference.util.progress import Bar
from ppl_models.captioner import Captioner
from ppl_models.decoding import Captions, beam_search

if TYPE_CHECKING:
    from inference.recipes.captions.captioner import Options
    from inference.results.run import Run

AT_ONCE = 50  # pictures
SHOWN = 8  # under each heading of the page
LONGEST = 30  # words


def report(
    run: Run, options: Options, captioned: Captioned, vocabulary: Vocabulary, test: Columns
) -> dict[str, Any]:
    """Test bound, perplexity, scores on valid and test, and where object words looked.

    Writes the vocabulary, a page of test captions and a picture of the first of them, beside the
    run.  Scores are those of the first seed.
    """
    test = run.place(test)  # type: ignore[assignment]
    figures = bounds(run, test) | aim(run, test)
    grids = test.tables["a"]
    for split in ("valid", "test"):
        chosen = [i for i, picture in enumerate(captioned.pictures) if picture.split == split]
        pictures = [captioned.pictures[i] for i in chosen]
        said = say(run, options, grids[torch.tensor(chosen)], f"captions, {split}")
        found = scored(said, pictures, vocabulary)
        figures |= {f"{name}, {split}": value for name, value in found.corpus.items()}
        if any(stops(caption) for picture in pictures for caption in picture.captions):
            counted = scored(said, pictures, vocabulary, stop=True).corpus
            bleu = [name for name in counted if name.startswith("BLEU")]
            figures |= {f"{name}, {split}, full stop counted": counted[name] for name in bleu}
    if run.directory is not None:
        vocabulary.save(run.directory / "vocabulary.json")
        shown = caption_page.choose(found.each["CIDEr"], SHOWN)
        page = {
            heading: [
                example(
                    pictures[i],
                    part(said, i),
                    vocabulary,
                    options.attention,
                    {"CIDEr": float(found.each["CIDEr"][i])},
                )
                for i in rows
            ]
            for heading, rows in shown.items()
        }
        title = f"{options.attention.capitalize()} attention on {options.data}"
        caption_page.page(run.directory / "captions.html", title, figures, page)
        draw(next(iter(page.values()))[0], run.directory / "caption.png")
    return figures


def bounds(run: Run, test: Columns) -> dict[str, Any]:
    """The test bound, nats per caption, and the perplexity per word that it bounds."""
    elbo = evaluate.importance_weighted_bound(run.programs[0], test.select(("a", "y")), 1)
    words = test.lengths["y"].sum()
    perplexity = math.exp(-float(elbo.double().sum()) / float(words))
    return {"test ELBO": elbo, "test perplexity per word, at most": perplexity}


def aim(run: Run, test: Columns) -> dict[str, Any]:
    """How often the words that name an object look at it, where its place is known.

    The captions are people's.  With soft attention, the place with the largest weight counts.
    """
    if "places" not in test.tensors:
        return {}
    program, hits = run.programs[0], []
    model: Any = program.model
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


def say(run: Run, options: Options, grids: Tensor, label: str) -> Captions:
    """The captions of pictures with these grids (N, L, D), in parts that fit memory."""
    program, parts = run.programs[0], []
    model: Any = program.model
    with program.scope(), Bar(label, len(grids)) as bar:
        for rows in slices(len(grids), AT_ONCE):
            a = grids[rows].to(program.device, program.dtype)
            parts.append(search(model.captioner, a, options.beam, options.length_penalty))
            if bar.due or rows.stop == len(grids):
                bar.update(rows.stop)
    return Captions(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))


def search(captioner: Captioner, a: Tensor, beam: int, length_penalty: float) -> Captions:
    """The best caption of each picture (B, L, D)."""
    return beam_search(captioner, a, beam, LONGEST, length_penalty)


def scored(
    said: Captions, pictures: Sequence[Picture], vocabulary: Vocabulary, stop: bool = False
) -> scores.Scores:
    """BLEU, ROUGE-L and CIDEr beside all captions of each picture.

    Args:
        said: one for each picture, without punctuation.
        pictures: with people's captions.
        vocabulary: of the words said.
        stop: count the full stop as a word of the captions that it ends, and of all that are said:
            so are the references that Xu et al. 2015 published with their code.
    """
    end = ["."] * stop
    hypotheses = [vocabulary.decode(row).split() + end for row in said.words.tolist()]
    references = [
        [tokens(caption) + end * stops(caption) for caption in picture.captions]
        for picture in pictures
    ]
    return scores.score(hypotheses, references)


def stops(caption: str) -> bool:
    """Whether a caption ends with a full stop."""
    return caption.rstrip().endswith(".")


def part(said: Captions, row: int) -> Captions:
    """One picture's caption."""
    return Captions(*(column[row : row + 1] for column in said))


def example(
    picture: Picture,
    said: Captions,
    vocabulary: Vocabulary,
    attention: str,
    figures: Mapping[str, float],
) -> Example:
    """A caption with its picture and maps, and with hard attention a look drawn from each map."""
    side = math.isqrt(said.attention.shape[-1])
    words = vocabulary.decode(said.words[0].tolist()).split()
    alpha = said.attention[0, : len(words)]
    places = None
    if attention == "hard" and words:
        with rng.forked(EVALUATION_SEED):
            places = OneHotCategorical(alpha).sample().unflatten(-1, (side, -1))
    per_word = {"nats per word": float(said.log_prob[0] / said.lengths[0])}
    maps = alpha.unflatten(-1, (side, -1))
    return Example(
        picture.name,
        picture.open(),
        words,
        maps,
        places,
        picture.captions,
        per_word | dict(figures),
    )


def caption(
    directory: Path, files: Sequence[Path], beam: int, length_penalty: float, device: str
) -> dict[str, str]:
    """Caption pictures with a trained run; a picture of each with its looks beside the run.

    Args:
        directory: the run's.
        files: of pictures.
        beam, length_penalty: see ``ppl_models.decoding``.
        device: where the networks run.

    Returns:
        file → caption.

    Raises:
        UserError: the directory holds no finished captioner, or a picture cannot be read.
    """
    options, vocabulary, captioner = trained(directory)
    encode = load_encoder(options["encoder"] or default_encoder(options["data"])).to(device)
    pictures = [Picture(file.name, "test", (), file.read_bytes) for file in files]
    captions = {}
    for file, picture in zip(files, pictures, strict=True):
        grid = encode([picture.open()]).to(captioner.embed.weight)
        said = search(captioner, grid, beam, length_penalty)
        shown = example(picture, said, vocabulary, options["attention"], {})
        draw(shown, directory / "captions" / f"{file.stem}.png")
        captions[str(file)] = vocabulary.decode(said.words[0].tolist())
    return captions


def trained(directory: Path) -> tuple[dict[str, Any], Vocabulary, Captioner]:
    """(options, vocabulary, networks of the first seed) of a finished run.

    Raises:
        UserError: there is none.
    """
    config, checkpoint = directory / "config.json", directory / "checkpoint.pt"
    vocabulary = directory / "vocabulary.json"
    for file in (config, checkpoint, vocabulary):
        if not file.exists():
            raise UserError(
                f"{directory} holds no finished captioner ({file.name} is missing): give the "
                "directory of a lowerbound fit captioner that ran to its end"
            )
    options = read_json(config)["recipe"]
    states = load_checkpoint(checkpoint)
    parameters = next(iter(states.values()))["program"]["parameters"]
    prefix = "model.captioner."
    weights = {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
    words, width = weights["embed.weight"].shape
    features = weights["key.weight"].shape[1]
    captioner = Captioner(features, words, width, options["hidden"]).eval()
    captioner.load_state_dict(weights)
    return options, Vocabulary.load(vocabulary), captioner
