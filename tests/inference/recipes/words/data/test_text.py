"""Text as numbers: every word where it was, windows that are views, mistakes in a sentence."""

import gzip

import pytest
import torch

from inference import UserError
from inference.data.vocabulary import END, UNKNOWN
from inference.recipes.words.data.text import continuations, load_text, sequences

LINES = [f"the {word} sat on the <unk>\n" for word in ("cat", "dog", "owl", "cat", "dog")] * 2


@pytest.fixture
def folder(tmp_path):
    for name, span in {"train": slice(0, 8), "valid": slice(8, 9)}.items():
        (tmp_path / f"{name}.txt").write_text("".join(LINES[span]))
    with gzip.open(tmp_path / "test.txt.gz", "wt") as file:
        file.write("an owl sat\n")
    (tmp_path / "all.txt").write_text("".join(LINES))
    return tmp_path


def test_words_come_back(folder):
    text = load_text(str(folder))
    assert text.vocabulary.words[2:] == ("the", "on", "sat", "cat", "dog", "owl")
    said = text.vocabulary.decode(text.train.tolist())
    assert said == "the cat sat on the <unknown>"
    sat, owl = (text.vocabulary.words.index(word) for word in ("sat", "owl"))
    assert text.test.tolist() == [UNKNOWN, owl, sat, END]
    assert text.counts().tolist() == [9, 9, 17, 9, 9, 4, 4, 3]
    assert text.train.dtype == torch.int32


def test_a_file_is_split_by_its_lines(folder):
    text = load_text(str(folder / "all.txt"))
    assert [len(part) for part in (text.train, text.valid, text.test)] == [56, 7, 7]
    assert torch.equal(text.train[:56], load_text(str(folder)).train)


def test_rare_words_are_unknown(folder):
    text = load_text(str(folder), minimum=3)
    assert "owl" not in text.vocabulary.words
    assert (text.train == UNKNOWN).sum() == 8 + 2


def test_windows_are_views_of_the_text():
    text = torch.arange(100, dtype=torch.int32)
    for columns in (continuations(text, 5), sequences(text, 5)):
        for column in columns.tensors.values():
            assert column.untyped_storage().data_ptr() == text.untyped_storage().data_ptr()
    every = continuations(text, 5).rows(torch.tensor([0, 94]))
    assert every["c"].tolist() == [[0, 1, 2, 3, 4], [94, 95, 96, 97, 98]]
    assert every["w"].tolist() == [5, 99]
    row = sequences(text, 5).rows(torch.tensor([0, 18]))
    assert row["c"][1].tolist() == [90, 91, 92, 93, 94]
    assert torch.equal(row["w"], row["c"] + 1)
    assert (len(continuations(text, 5)), len(sequences(text, 5))) == (95, 19)


def test_mistakes(folder):
    (folder / "valid.txt").write_text("")
    (folder / "latin.txt").write_bytes(b"caf\xe9\n" * 20)
    (folder / "other").mkdir()
    for source, sentence in (
        ("nowhere", "no text 'nowhere': give ptb, a file, or a folder of train.txt, valid.txt"),
        (str(folder), "the part 'valid' holds no words"),
        (str(folder / "latin.txt"), "latin.txt is not UTF-8"),
        (str(folder / "other"), r"other has no file train.txt \(or train.txt.gz\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_text(source)
    with pytest.raises(UserError, match="has 4 words, fewer than 6"):
        continuations(torch.arange(4), 5)


def test_the_penn_treebank_has_its_known_size():
    try:
        text = load_text("ptb")
    except UserError as missing:
        pytest.skip(str(missing))
    assert [len(p) for p in (text.train, text.valid, text.test)] == [929_589, 73_760, 82_430]
    assert len(text.vocabulary) == 10_000
    assert not (text.train >= 10_000).any()
