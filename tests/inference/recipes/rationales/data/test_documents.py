"""Labelled texts from files: what is read, what is refused and in which words."""

import gzip
import json

import numpy as np
import pytest
import torch

from inference import UserError
from inference.data.vocabulary import Vocabulary
from inference.recipes.rationales.data.columns import columns, over_words, unit_shares
from inference.recipes.rationales.data.documents import (
    Document,
    load_texts,
    sentences_of,
    units,
)
from inference.recipes.rationales.data.planted import planted
from inference.recipes.rationales.data.vectors import initial_vectors

ROW = {"id": "a", "label": "POS", "sentences": ["one two three .", "four ."]}


def rows(count=20, **changes):
    return [{**ROW, "id": f"row {i}", "label": "PN"[i % 2], **changes} for i in range(count)]


def written(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def test_a_file_is_split_and_a_folder_is_taken_as_it_is(tmp_path):
    texts = load_texts(written(tmp_path / "all.jsonl", rows()), 100)
    assert [len(part) for part in (texts.train, texts.valid, texts.test)] == [16, 2, 2]
    assert texts.labels == ["N", "P"]
    for part in ("train", "val", "test"):
        written(tmp_path / f"{part}.jsonl.gz", rows(4))
    texts = load_texts(str(tmp_path), 100)
    assert [document.name for document in texts.test] == [f"row {i}" for i in range(4)]


def test_a_table_of_texts_and_labels(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + '"It\'s good, really. Go!",1\nbad.,0\n' * 10)
    texts = load_texts(str(path), 100)
    good = next(document for document in texts.train if document.label == "1")
    assert good.sentences == [["it's", "good", ",", "really", "."], ["go", "!"]]
    assert good.spans is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sentences": []}, "has no words: remove it"),
        ({"sentences": ["a " * 101]}, "has 101 words, more than --limit 100"),
        ({"rationale_token_spans": [[2, 7]]}, r"the span \[2, 7\) leaves its 6 words"),
        ({"rationale_token_spans": [[3, 2]]}, r"the span \[3, 2\) leaves"),
        ({"label": "POS"}, r"all training texts have the label \['POS'\]"),
        ({"sentences": 3}, r"line 1, cannot be read .'sentences' is no list"),
    ],
)
def test_unusable_texts_are_refused_in_words(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        load_texts(written(tmp_path / "texts.jsonl", rows(**changes)), 100)


def test_unusable_files_are_refused_in_words(tmp_path):
    with pytest.raises(UserError, match="no texts 'nowhere'"):
        load_texts("nowhere", 100)
    with pytest.raises(UserError, match=r"has no train\.jsonl"):
        load_texts(str(tmp_path), 100)
    (tmp_path / "a.csv").write_text("text,kind\n")
    with pytest.raises(UserError, match="has no column label"):
        load_texts(str(tmp_path / "a.csv"), 100)
    (tmp_path / "b.jsonl").write_text("{not json\n")
    with pytest.raises(UserError, match=r"line 1, cannot be read .*: it needs 'sentences'"):
        load_texts(str(tmp_path / "b.jsonl"), 100)
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        load_texts(str(tmp_path / "c.jsonl.gz"), 100)
    with pytest.raises(UserError, match="there are 9 texts: give 10"):
        load_texts(written(tmp_path / "few.jsonl", rows(9)), 100)


def test_a_label_of_a_test_text_must_be_known(tmp_path):
    for part, label in {"train": None, "val": None, "test": "?"}.items():
        written(tmp_path / f"{part}.jsonl", rows(4, **({"label": label} if label else {})))
    with pytest.raises(UserError, match="has the label '\\?', which no training text has"):
        load_texts(str(tmp_path), 100)


def test_units_are_pieces_of_sentences_and_marks_are_theirs():
    document = Document("a", [["b"] * 5, ["c"] * 2], "P", [(3, 6)])
    assert [(part.start, len(part.words)) for part in units(document, 3)] == [
        (0, 3),
        (3, 2),
        (5, 2),
    ]
    shares = unit_shares(document, document.marks(), 3)
    np.testing.assert_allclose(shares, [0, 1, 0.5])
    assert over_words(document, shares, 3).tolist() == [0, 0, 0, 1, 1, 0.5, 0.5]


def test_columns_hold_words_and_the_marks_of_a_share_of_texts():
    documents = [Document(str(i), [["a"] * 5, ["b"] * 2], "PN"[i % 2], [(5, 7)]) for i in range(10)]
    vocabulary = Vocabulary.from_texts([["a", "b", "b"]], 1)
    found = columns(documents, vocabulary, ["N", "P"], 3, marked=0.3)
    a, b = vocabulary.words.index("a"), vocabulary.words.index("b")
    assert found.tensors["x"][0].tolist() == [[a, a, a], [a, a, 0], [b, b, 0]]
    assert found.tensors["y"].tolist() == [1, 0] * 5
    assert int(found.tensors["marked"].sum()) == 3
    assert found.tensors["marks"][0].tolist() == [0, 0, 1]
    assert found.lengths["x"].tolist() == [3] * 10


def test_only_texts_that_people_read_are_marked():
    documents = [Document(str(i), [["a"]], "P", [] if i < 2 else None) for i in range(10)]
    found = columns(documents, Vocabulary.from_texts([["a"]], 1), ["P"], 3, marked=1.0)
    assert found.tensors["marked"].nonzero()[:, 0].tolist() == [0, 1]


def test_vectors_from_a_file(tmp_path):
    vocabulary = Vocabulary.from_texts([["a", "b", "c"]], 1)
    path = tmp_path / "vectors.txt"
    path.write_text("2 3\na 1 2 3\nb 4 5 6\nz 7 8 9\n")
    vectors = initial_vectors(str(path), vocabulary)
    assert vectors[vocabulary.words.index("b")].tolist() == [4, 5, 6]
    assert vectors[0].tolist() == [0, 0, 0]
    assert vectors[vocabulary.words.index("c")].abs().min() > 0
    assert initial_vectors("none", vocabulary).shape == (len(vocabulary), 50)
    path.write_text("y 1 2 3\n")
    with pytest.raises(UserError, match="none of the texts' words"):
        initial_vectors(str(path), vocabulary)


def test_a_line_separator_within_a_text_ends_no_line(tmp_path):
    path = tmp_path / "a.jsonl"
    rows_of = [{**row, "sentences": ["one\u2028two"]} for row in rows()]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of))
    assert load_texts(str(path), 100).train[0].sentences == [["one", "two"]]


def test_a_rare_label_is_trained_on_and_its_absence_said(tmp_path, capsys):
    texts = "".join(f"good {i}.,{'rare' if i < 2 else 'often'}\n" for i in range(40))
    (tmp_path / "a.csv").write_text(f"text,label\n{texts}")
    assert load_texts(str(tmp_path / "a.csv"), 100).labels == ["often", "rare"]
    assert "text has the label rare" in capsys.readouterr().err


def test_sentences_of_a_running_text():
    assert sentences_of(" A dog.  It barks -- why? ") == [
        ["a", "dog", "."],
        ["it", "barks", "--", "why", "?"],
    ]


def test_planted_texts_are_the_same_at_every_call():
    first, second = planted(), planted()
    assert first == second
    for row in first[0]:
        words = " ".join(row["sentences"]).split()
        assert len(row["rationale_token_spans"]) == 2
        for start, end in row["rationale_token_spans"]:
            assert words[start] == "the"
            assert words[end - 1] == "."
    assert torch.tensor([row["label"] == "POS" for row in first[0]]).double().mean() > 0.4
