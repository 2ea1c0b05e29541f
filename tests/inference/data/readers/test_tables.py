"""Tables as people have them: a value, or a sentence that names file, column and remedy."""

import numpy as np
import pytest
import torch

from inference import UserError
from inference.data.sources import covariates, load_splits

ROWS = "".join(f"{i / 7},{i % 3}\n" for i in range(20))


def train(path):
    return load_splits(str(path)).train.tensors


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_any_table_of_numbers_is_the_same(tmp_path, encoding, mark, end):
    text = f"a,b\n{ROWS}".replace(",", mark).replace("\n", end)
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    found = train(tmp_path / "a.csv")
    assert found.keys() == {"a", "b"}
    assert (len(found["a"]), found["b"].dtype) == (16, torch.int64)


def test_the_index_that_pandas_writes_is_no_covariate(tmp_path, capsys):
    rows = "".join(f"{i},{i % 5},{i % 3}\n" for i in range(20))
    for header in (",a,count", "index,a,count", "id,a,count"):
        (tmp_path / "a.csv").write_text(f"{header}\n{rows}")
        assert covariates(tmp_path / "a.csv", "count")[0].shape == (20, 2)
        assert "names the rows and is left out" in capsys.readouterr().err
    shuffled = "".join(f"{(7 * i) % 20},{i % 5},{i % 3}\n" for i in range(20))
    (tmp_path / "a.csv").write_text(f",a,count\n{shuffled}")
    assert covariates(tmp_path / "a.csv", "count")[0].shape == (20, 2)
    (tmp_path / "a.csv").write_text(f"id,a,count\n{shuffled}")  # perhaps data: kept, and said
    assert covariates(tmp_path / "a.csv", "count")[0].shape == (20, 3)
    assert "delete it if it only names the rows" in capsys.readouterr().err


def test_words_of_few_kinds_are_numbered_and_it_is_said(tmp_path, capsys):
    rows = "".join(f"{i},{'cat' if i % 2 else 'dog'}\n" for i in range(20))
    (tmp_path / "a.csv").write_text(f"a,label\n{rows}")
    assert set(train(tmp_path / "a.csv")["label"].tolist()) == {0, 1}
    assert "column 'label' holds 2 words, numbered: cat = 0, dog = 1" in capsys.readouterr().err
    (tmp_path / "a.csv").write_text("city,count\n" + "a,1\nb,2\nc,3\n" * 5)
    with pytest.raises(UserError, match="column 'city' holds 3 words: write a column of 0 and 1"):
        covariates(tmp_path / "a.csv", "count")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        ("a,b\n1,2\nö,3\n".encode("latin-1"), "is not UTF-8 .*perhaps Latin-1"),
        (b"a,b\n1,2\n1,2,3\n", "cannot be read .*line 3, saw 3"),
        (b"a,b\n" + b"1,2,3\n" * 20, "cannot be read"),
        (b'a,b\n1,2\n"3,4\n', "cannot be read .*inside string"),
        (b"a,b\n1,2\n3\n", "column 'b' has no number in line 3"),
        (b"a,b\n" + b"1,\xd9\xa3\n" * 20, ""),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is not UTF-8|is a binary file"),
        (b"a,b\n" + b"x" * 300_000 + b",1\n2,3\n", "column 'a' is not numeric"),
    ],
)
def test_what_is_no_table_is_a_sentence(tmp_path, content, sentence):
    (tmp_path / "a.csv").write_bytes(content)
    if sentence:
        with pytest.raises(UserError, match=sentence):
            load_splits(str(tmp_path / "a.csv"))
    else:
        assert train(tmp_path / "a.csv").keys() == {"a", "b"}


def test_arrays_of_other_kinds_are_left_out_and_said(tmp_path, capsys):
    x = np.arange(40.0)
    more = {"meta": np.array([{"a": 1}] * 40), "version": np.array(3), "names": np.array(["a"])}
    np.savez(tmp_path / "a.npz", x=x, **more)
    assert train(tmp_path / "a.npz").keys() == {"x"}
    said = capsys.readouterr().err
    assert "'meta' is of Python objects and is left out" in said
    assert "'version' is a single number" in said
    assert "'names' is of words, not one a row" in said


@pytest.mark.parametrize("kind", [">f4", ">i2", "<u2", "<u4", "<u8", "f2", "f8", "?"])
def test_numbers_of_any_type_keep_their_values(tmp_path, kind):
    np.save(tmp_path / "a.npy", (np.arange(40) % 2).astype(kind))
    splits = load_splits(str(tmp_path / "a.npy"))
    x = torch.cat([part.tensors["x"] for part in (splits.train, splits.valid, splits.test)])
    assert sorted(x.double().tolist()) == [0.0] * 20 + [1.0] * 20


def test_numbers_and_pictures_of_a_parquet_file(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    nested = [[[float(i), 1.0], [2.0, 3.0]] for i in range(20)]
    table = pd.DataFrame({"x": nested, "label": ["cat", "dog"] * 10}, index=np.arange(20) + 5)
    table.to_parquet(tmp_path / "a.parquet")
    found = train(tmp_path / "a.parquet")
    assert found["x"].shape == (16, 1, 2, 2)
    assert found["label"].sum() == 8
    pd.DataFrame({"x": [1.0, None] * 10}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(UserError, match="'x' has no value in row 1"):
        load_splits(str(tmp_path / "b.parquet"))
