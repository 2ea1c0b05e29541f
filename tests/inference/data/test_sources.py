"""Sources: every kind of file, the documented splits, and one clear sentence for each bad input."""

import gzip
import struct

import numpy as np
import pytest
import torch

from inference import Columns, UserError
from inference.data.columns import epoch_order
from inference.data.sources import covariates, load_splits
from inference.recipes.images.data.binarize import binarize


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def idx(folder):
    rng = np.random.default_rng(0)
    for part, n in (("train", 24), ("t10k", 6)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 5, 4)))
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    return folder


def sizes(splits):
    return [len(part) for part in (splits.train, splits.valid, splits.test)]


def test_digits():
    splits = load_splits("digits")
    assert sizes(splits) == [1297, 250, 250]
    x = torch.cat([part.tensors["x"] for part in (splits.train, splits.valid, splits.test)])
    assert x.shape == (1797, 1, 8, 8)
    assert (x.min(), x.max()) == (0, 1)
    assert len(torch.unique(x.flatten(1), dim=0)) > 1790  # the splits do not overlap


def test_idx_folder(tmp_path):
    splits = load_splits(str(idx(tmp_path)))
    assert sizes(splits) == [22, 2, 6]
    assert splits.train.tensors["x"].shape == (22, 1, 5, 4)
    assert splits.valid.tensors["label"].tolist() == [2, 3]


def test_named_folder_by_environment(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    idx(tmp_path / "mnist")
    monkeypatch.setenv("LOWERBOUND_DATA", str(tmp_path))
    assert sizes(load_splits("mnist")) == [22, 2, 6]


def test_npz_with_and_without_named_splits(tmp_path):
    x = np.arange(40, dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=x, label=np.arange(40))
    splits = load_splits(str(tmp_path / "a.npz"))
    assert sizes(splits) == [32, 4, 4]
    together = torch.cat([p.tensors["x"] for p in (splits.train, splits.valid, splits.test)])
    assert sorted(together.tolist()) == x.tolist()
    image = np.full((24, 6, 6, 3), 255, np.uint8)
    np.savez(tmp_path / "b.npz", x_train=image, x_test=image[:5], names=np.array(["a"]))
    splits = load_splits(str(tmp_path / "b.npz"))
    assert sizes(splits) == [22, 2, 5]
    assert splits.train.tensors["x"].shape == (22, 3, 6, 6)
    assert splits.train.tensors["x"].max() == 1


def test_npy_csv_and_parquet(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("datasets")
    table = pd.DataFrame({"a": np.arange(20.0), "count": np.arange(20)})
    np.save(tmp_path / "x.npy", table["a"].to_numpy())
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    assert sizes(load_splits(str(tmp_path / "x.npy"))) == [16, 2, 2]
    a, b = (load_splits(str(tmp_path / f"t.{end}")).train.tensors for end in ("csv", "parquet"))
    assert a["count"].dtype == torch.int64
    assert torch.equal(a["a"], b["a"])


def test_image_folder(tmp_path):
    pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(10):
            picture = image.fromarray(np.full((6, 5, 3), 10 * i, np.uint8))
            picture.save(tmp_path / label / f"{i}.png")
    splits = load_splits(str(tmp_path))
    assert sizes(splits) == [16, 2, 2]
    assert splits.train.tensors["x"].shape == (16, 3, 6, 5)
    assert set(splits.train.tensors["label"].tolist()) == {0, 1}


def test_covariates_are_standardised(tmp_path):
    (tmp_path / "t.csv").write_text("age,count\n1,3\n2,4\n3,9\n")
    x, y = covariates(tmp_path / "t.csv", "count")
    assert x.tolist() == [[1, -1], [1, 0], [1, 1]]
    assert y.tolist() == [3, 4, 9]


def test_binarisation_is_anew_each_time_and_has_the_grey_level_s_mean():
    columns = Columns({"x": torch.full((100_000,), 0.3)}, binarize("x"))
    a, b = columns.rows()["x"], columns.rows()["x"]
    assert set(a.unique().tolist()) == {0, 1}
    assert not torch.equal(a, b)
    assert abs(a.mean() - 0.3) < 4 * (0.21 / 100_000) ** 0.5


def test_an_epoch_visits_every_row_once_in_an_order_of_its_own():
    first, second = (epoch_order(10, 4, seed=0, epoch=e) for e in (0, 1))
    assert [len(b) for b in first] == [4, 4, 2]
    assert sorted(torch.cat(first).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(first), torch.cat(epoch_order(10, 4, seed=0, epoch=0)))


def test_rows_of_like_length_go_together_and_every_row_once():
    lengths = torch.arange(1000) % 40 + 1
    first, second = (epoch_order(1000, 10, seed=0, epoch=e, lengths=lengths) for e in (0, 1))
    assert [len(batch) for batch in first] == [10] * 100
    assert torch.cat(first).unique().tolist() == list(range(1000))
    assert {frozenset(b.tolist()) for b in first}.isdisjoint(frozenset(b.tolist()) for b in second)
    spread = torch.tensor([int(lengths[b].max() - lengths[b].min()) for b in first])
    assert spread.float().mean() < 2  # of 36 on average, were they drawn at random
    assert len({int(lengths[b].max()) for b in first[:10]}) > 5  # not the shortest batches first


def test_shared_rows_and_lengths_give_each_batch_its_own():
    table = torch.randn(3, 2, dtype=torch.float16)
    y = torch.tensor([[5, 0, 0], [5, 6, 0], [5, 6, 7], [8, 0, 0]])
    columns = Columns(
        {"a": torch.tensor([0, 2, 2, 1]), "y": y},
        tables={"a": table},
        lengths={"y": torch.tensor([1, 2, 3, 1])},
    )
    batch = columns.to(torch.device("cpu"), torch.float64).rows(torch.tensor([0, 1]))
    assert torch.equal(batch["a"], table[[0, 2]].double())
    assert batch["y"].tolist() == [[5, 0], [5, 6]]
    assert columns.select(["y"]).rows(slice(3, 4))["y"].tolist() == [[8]]
    both = columns.followed_by(columns)
    assert len(both) == 8
    assert torch.equal(both.rows()["a"], table[[0, 2, 2, 1] * 2].double())
    assert both.rows(torch.tensor([7, 0]))["y"].tolist() == [[8], [5]]


def bad(tmp_path):
    (tmp_path / "cut-idx").mkdir()
    folder = idx(tmp_path / "cut-idx")
    whole = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole[:-7]))
    (tmp_path / "foreign-idx").mkdir()
    folder = idx(tmp_path / "foreign-idx")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\x01" + whole[1:]))
    (tmp_path / "hole.csv").write_text("a,count\n1,2\n,3\n")
    (tmp_path / "words.csv").write_text("a,count\nx,2\ny,3\n")
    (tmp_path / "data.txt").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "no data .*nowhere"),
        ("cut-idx", "train-images-idx3-ubyte.gz is cut short"),
        ("foreign-idx", "train-images-idx3-ubyte.gz is not an idx file"),
        ("hole.csv", "column 'a' has no number in line 3"),
        ("words.csv", "column 'a' is not numeric"),
        ("data.txt", ".txt is not one of"),
    ],
)
def test_bad_sources_are_named(tmp_path, source, sentence):
    with pytest.raises(UserError, match=sentence):
        load_splits(str(bad(tmp_path) / source))


def test_bad_columns_are_named():
    with pytest.raises(UserError, match=r"columns differ in length: \{'x': 3, 'y': 4\}"):
        Columns({"x": torch.zeros(3), "y": torch.zeros(4)})
    with pytest.raises(UserError, match="have no rows"):
        Columns({"x": torch.zeros(0)})
    with pytest.raises(UserError, match="column 'a' asks for row 3 of a table of 3 rows"):
        Columns({"a": torch.tensor([3])}, tables={"a": torch.zeros(3, 2)})
