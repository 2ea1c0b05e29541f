"""Scenes: the words' places are where the objects lie, and the splits share nothing."""

import struct

import numpy as np
import pytest
import torch

from inference import UserError
from inference.data.sources import digits
from inference.data.vocabulary import Vocabulary, tokenize
from inference.recipes.captions.data.captions import load_captions
from inference.recipes.captions.data.features import extract
from inference.recipes.captions.data.scenes import CELL, CLOTHES, DIGITS, SIDE, compose, scenes

pytest.importorskip("PIL.Image")
RELATION = {(0, 1): "left of", (1, 0): "above", (1, 1): "above left of", (1, -1): "above right of"}


@pytest.fixture(scope="module")
def found():
    return scenes((60, 30, 30), seed=1)


def cell(canvas, place):
    row, column = divmod(place, SIDE)
    return canvas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]


def test_every_object_s_word_has_the_place_of_a_digit_of_its_class(found):
    parts = digits()
    for picture in found.pictures:
        tensors = getattr(parts, picture.split).tensors
        known = {
            (255 * x).round().byte().numpy().tobytes(): int(label)
            for x, label in zip(tensors["x"][:, 0], tensors["label"], strict=True)
        }
        canvas = np.asarray(picture.open())[:, :, 0]
        for caption, places in zip(picture.captions, picture.places, strict=True):
            for word, place in zip(tokenize(caption), places, strict=True):
                assert (place >= 0) == (word in DIGITS)
                if place >= 0:
                    assert DIGITS[known[cell(canvas, place).tobytes()]] == word
        occupied = {p for p in range(SIDE**2) if cell(canvas, p).any()}
        assert occupied == {p for p in picture.places[0] if p >= 0}


def test_captions_follow_the_reading_order_and_say_how_things_lie(found):
    sign = np.sign
    for picture in found.pictures:
        places = [p for p in picture.places[-1] if p >= 0]
        assert places == sorted(set(places))
        words = [word for word in tokenize(picture.captions[-1]) if word in DIGITS]
        assert len(set(words)) == len(words)
        said = f"{article(words[0])} {words[0]}"
        for first, second, word in zip(places, places[1:], words[1:], strict=False):
            (r, c), (s, d) = divmod(first, SIDE), divmod(second, SIDE)
            said += f" {RELATION[int(sign(s - r)), int(sign(d - c))]} {article(word)} {word}"
        assert picture.captions[-1] == said
        joined = " and ".join(f"{article(w)} {w}" for w in words)
        assert picture.captions[0] == joined


def article(word):
    return "an" if word == "eight" else "a"


def test_rows_align_places_with_words(found):
    vocabulary = Vocabulary.from_texts(found.captions("train"), minimum=1)
    rows = found.columns("valid", vocabulary).tensors
    assert rows["places"].shape == rows["y"].shape
    named = torch.tensor([word in DIGITS for word in vocabulary.words])
    assert torch.equal(rows["places"] >= 0, named[rows["y"]])
    assert rows["image"].unique().tolist() == list(range(60, 90))


def test_one_location_of_pixels_is_one_cell(found, tmp_path):
    features = extract(found.pictures, "pixels", tmp_path / "f.npy")
    vocabulary = Vocabulary.from_texts(found.captions("train"), minimum=1)
    rows = found.columns("train", vocabulary).tensors
    lit = torch.from_numpy(features[..., : 3 * CELL**2]).abs().sum(-1)[rows["image"]] > 0
    pointed = torch.zeros_like(lit)
    row, word = (rows["places"] >= 0).nonzero(as_tuple=True)
    pointed[row, rows["places"][row, word]] = True
    assert torch.equal(lit, pointed)


def test_the_seed_decides(found):
    again, other = scenes((60, 30, 30), seed=1), scenes((60, 30, 30), seed=2)
    assert [p.read() for p in again.pictures] == [p.read() for p in found.pictures]
    assert [p.captions for p in again.pictures] == [p.captions for p in found.pictures]
    assert [p.captions for p in other.pictures] != [p.captions for p in found.pictures]
    assert not {p.name for p in other.pictures} & {p.name for p in found.pictures}


def test_counts_classes_and_cells_are_uniform():
    things = np.ones((20, CELL, CELL), np.uint8), np.arange(20) % 10
    _, classes, cells = compose(things, 12_000, np.random.default_rng(0))
    for values, kinds in (
        ((classes >= 0).sum(1) - 1, 3),
        (classes[:, 0], 10),
        (cells.reshape(-1), 16),
    ):
        n, p = len(values), 1 / kinds
        z = (np.bincount(values, minlength=kinds) - n * p) / np.sqrt(n * p * (1 - p))
        assert np.abs(z).max() < 4


def test_by_name():
    found = load_captions("scenes")
    splits = [p.split for p in found.pictures]
    assert [splits.count(s) for s in ("train", "valid", "test")] == [4000, 500, 500]


def test_clothes_among_the_digits(tmp_path, monkeypatch):
    (tmp_path / "fashion-mnist").mkdir()
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        stem = tmp_path / "fashion-mnist" / part
        images, labels = rng.integers(1, 256, (240, 28, 28)), np.arange(240) % 10
        for kind, dims, array in (("images", 3, images), ("labels", 1, labels)):
            header = struct.pack(f">BBBB{dims}I", 0, 0, 8, dims, *array.shape)
            content = header + array.astype(np.uint8).tobytes()
            stem.with_name(f"{part}-{kind}-idx{dims}-ubyte").write_bytes(content)
    monkeypatch.setenv("LOWERBOUND_DATA", str(tmp_path))
    found = scenes((400, 20, 20), clothing=True)
    said = {word for words in found.captions("train") for word in words}
    assert set(DIGITS + CLOTHES) <= said
    for picture in found.pictures:
        for words, places in zip(map(tokenize, picture.captions), picture.places, strict=True):
            assert [w in DIGITS + CLOTHES for w in words] == [p >= 0 for p in places]


def test_clothes_need_their_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("LOWERBOUND_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no folder 'fashion-mnist'"):
        load_captions("scenes-clothing")
