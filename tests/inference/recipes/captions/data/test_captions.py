"""Captioned pictures: every layout, the documented splits, one sentence for each bad input."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from inference import UserError
from inference.data.vocabulary import END, UNKNOWN, Vocabulary
from inference.recipes.captions.data.captions import load_captions

image = pytest.importorskip("PIL.Image")


def jpg(shade):
    out = io.BytesIO()
    image.fromarray(np.full((9, 7, 3), shade, np.uint8)).save(out, "jpeg")
    return out.getvalue()


def folder(path, listing, text, pictures=10):
    (path / "Images").mkdir()
    for i in range(pictures):
        (path / "Images" / f"{i}.jpg").write_bytes(jpg(20 * i))
    (path / listing).write_text(text)
    return path


def shades(found):
    return {p.name: np.asarray(p.open())[0, 0, 0] for p in found.pictures}


def sizes(found):
    splits = [p.split for p in found.pictures]
    return [splits.count(s) for s in ("train", "valid", "test")]


CSV = "image,caption\n" + "".join(
    f'{i}.jpg,A dog .\n{i}.jpg,"Dog {i}, running ."\n' for i in range(10)
)
TOKEN = "".join(f"{i}.jpg#{j}\tA dog {j} .\n" for i in range(10) for j in range(2))
KARPATHY = json.dumps(
    {
        "images": [
            {"filename": "0.jpg", "split": "train", "sentences": [{"raw": "A dog 0."}]},
            {"filename": "1.jpg", "split": "restval", "sentences": [{"tokens": ["a", "cat"]}]},
            {"filename": "2.jpg", "split": "val", "sentences": [{"raw": "One."}, {"raw": "Two."}]},
            {"filename": "3.jpg", "split": "test", "sentences": [{"raw": "A dog."}]},
            {"filename": "9.jpg", "split": "unused", "sentences": []},
        ]
    }
)


def test_csv_and_token_lists_split_alike(tmp_path):
    for name, text in (("captions.txt", CSV), ("Flickr8k.token.txt", TOKEN)):
        (tmp_path / name).mkdir()
        found = load_captions(str(folder(tmp_path / name, name, text)))
        assert sizes(found) == [8, 1, 1]
        assert all(len(p.captions) == 2 for p in found.pictures)
        assert shades(found) == pytest.approx({f"{i}.jpg": 20 * i for i in range(10)}, abs=2)
    again = load_captions(str(tmp_path / "captions.txt" / "captions.txt"))
    split = {p.name: p.split for p in found.pictures}
    assert split == {p.name: p.split for p in again.pictures}
    assert again.pictures[3].captions == ("A dog .", f"Dog {again.pictures[3].name[0]}, running .")


def test_lists_of_the_splits_are_followed(tmp_path):
    folder(tmp_path, "Flickr8k.token.txt", TOKEN + "no.jpg.1#0\tA dog\n")
    for part, names in (
        ("train", "0.jpg\n4.jpg\n"),
        ("dev", "1.jpg\n"),
        ("test", "2.jpg\n3.jpg\n"),
    ):
        (tmp_path / f"Flickr_8k.{part}Images.txt").write_text(names)
    found = load_captions(str(tmp_path))
    assert {p.name: p.split for p in found.pictures} == {
        **dict.fromkeys(["0.jpg", "4.jpg"], "train"),
        "1.jpg": "valid",
        **dict.fromkeys(["2.jpg", "3.jpg"], "test"),
    }


def test_lists_without_a_header_with_blanks_marks_and_old_line_ends(tmp_path):
    names = [f"a {i}.jpg" for i in range(9)] + ["Café.jpg"]
    listed = [*names[:-1], "Cafe\u0301.jpg"]  # as macOS writes it
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(jpg(20 * i))
    text = "\ufeff" + "".join(f"{name},A dog {i}\r" for i, name in enumerate(listed))
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "captions.txt").write_bytes(text.encode(encoding))
        found = load_captions(str(tmp_path))
        assert sorted(p.name for p in found.pictures) == sorted(names)
        assert all(p.captions[0].startswith("A dog") for p in found.pictures)
    (tmp_path / "captions.txt").unlink()
    (tmp_path / "a.token.txt").write_text("".join(f"{n}#0\tA\u2028dog\n" for n in listed))
    (tmp_path / "a.trainImages.txt").write_text("".join(f"{n} \n" for n in listed[:8]))
    (tmp_path / "a.devImages.txt").write_text(f"{listed[8]}\n")
    (tmp_path / "a.testImages.txt").write_text(f"{listed[9]}\n")
    assert sizes(load_captions(str(tmp_path))) == [8, 1, 1]


def test_a_caption_may_be_one_text_and_may_not_be_null(tmp_path):
    said = KARPATHY.replace('"sentences": [{"raw": "A dog 0."}]', '"captions": "A dog 0."')
    found = load_captions(str(folder(tmp_path, "captions.json", said)))
    assert found.pictures[0].captions == ("A dog 0.",)
    for null in ("null", "[null]", "3", '["A dog.", 3]'):
        text = said.replace('"captions": "A dog 0."', f'"captions": {null}')
        (tmp_path / "captions.json").write_text(text)
        with pytest.raises(UserError, match="item 0 of 'images'"):
            load_captions(str(tmp_path))


def test_karpathy_s_layout_in_a_folder_and_in_an_archive(tmp_path):
    folder(tmp_path, "dataset_flickr8k.json", KARPATHY)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for file in [*(tmp_path / "Images").iterdir(), tmp_path / "dataset_flickr8k.json"]:
            archive.write(file, file.relative_to(tmp_path))
    for source in (tmp_path, tmp_path / "all.zip", tmp_path / "dataset_flickr8k.json"):
        found = load_captions(str(source))
        assert [p.split for p in found.pictures] == ["train", "train", "valid", "test"]
        assert found.pictures[1].captions == ("a cat",)
        assert shades(found) == pytest.approx({f"{i}.jpg": 20 * i for i in range(4)}, abs=2)


@pytest.mark.parametrize("column", ["caption", "captions"])
def test_parquet(tmp_path, column):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("datasets")
    caption = [["A dog.", "A cat."] if column == "captions" else "A dog."] * 10
    pictures = [{"bytes": jpg(20 * i), "path": None} for i in range(10)]
    pd.DataFrame({"image": pictures, column: caption}).to_parquet(tmp_path / "a.parquet")
    found = load_captions(str(tmp_path / "a.parquet"))
    assert sizes(found) == [8, 1, 1]
    assert all(len(p.captions) == 1 + (column == "captions") for p in found.pictures)
    assert sorted(shades(found).values()) == pytest.approx(range(0, 200, 20), abs=2)


def test_rows(tmp_path):
    found = load_captions(str(folder(tmp_path, "dataset_a.json", KARPATHY)))
    vocabulary = Vocabulary.from_texts(found.captions("train"), minimum=1)
    assert vocabulary.words[2:] == ("a", "0", "cat", "dog")
    train = found.columns("train", vocabulary).tensors
    assert train["image"].tolist() == [0, 1]
    assert train["y"].tolist() == [[2, 5, 3, END], [2, 4, END, END]]
    assert {column.dtype for column in train.values()} == {torch.int64}
    valid = found.columns("valid", vocabulary).tensors
    assert valid["image"].tolist() == [2, 2]
    assert valid["y"].tolist() == [[UNKNOWN, END]] * 2


def test_a_caption_of_300_words_is_cut_with_a_note(tmp_path):
    rows = "".join(f"{i}.jpg,{'dog ' * 300}\n" for i in range(10))
    found = load_captions(str(folder(tmp_path, "captions.txt", f"image,caption\n{rows}")))
    vocabulary = Vocabulary.from_texts(found.captions("train"))
    with pytest.warns(UserWarning, match="8 captions of .* cut after 50 words"):
        y = found.columns("train", vocabulary).tensors["y"]
    assert y.tolist() == [[2] * 50 + [END]] * 8
    assert found.columns("test", vocabulary, longest=300).tensors["y"].shape == (1, 301)


def test_a_truncated_picture_is_named(tmp_path):
    found = load_captions(str(folder(tmp_path, "captions.txt", CSV)))
    file = tmp_path / "Images" / "0.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    image.fromarray(noise).save(file)
    whole = file.read_bytes()
    broken = next(p for p in found.pictures if p.name == "0.jpg")
    for size, reason in ((len(whole) // 2, "truncated"), (5, "no kind of picture")):
        file.write_bytes(whole[:size])
        with pytest.raises(UserError, match=rf"picture 0.jpg cannot be read \(.*{reason}.*\): rep"):
            broken.open()
    file.unlink()
    with pytest.raises(UserError, match=r"0.jpg cannot be read \(No such file"):
        broken.open()


@pytest.mark.parametrize(
    ("listing", "text", "sentence"),
    [
        ("captions.txt", CSV + "11.jpg,A dog\n", "the picture 11.jpg, of which there are 0"),
        ("captions.txt", CSV + "3.jpg\n", "line 22 is not image,caption"),
        ("captions.txt", CSV + '3.jpg,"A\n4.jpg,A dog\n', "line 23 is not image,caption"),
        ("captions.txt", "image,caption\n", "holds no picture of a split"),
        ("a.token.txt", TOKEN + "3.jpg A dog\n", "line 21 is not NAME#0, a tab, a caption"),
        ("captions.json", KARPATHY[:-3], "is not JSON from line 1 on"),
        ("captions.json", "[]", "has no list 'images'"),
        (
            "dataset_a.json",
            KARPATHY.replace("split", "part"),
            "item 0 of 'images' cannot be read .*'split'",
        ),
        ("captions.json", KARPATHY.replace('[{"raw": "A dog."}]', "[]"), "3.jpg has no caption"),
        ("readme.txt", "", "has no list of captions: put captions.txt"),
    ],
)
def test_bad_sets_are_named(tmp_path, listing, text, sentence):
    with pytest.raises(UserError, match=sentence):
        load_captions(str(folder(tmp_path, listing, text)))


def test_bad_sources_are_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    (tmp_path / "captions.txt").write_bytes(b"image,caption\na.jpg,caf\xe9\n")
    with pytest.raises(UserError, match=r"no captioned pictures .*nowhere"):
        load_captions(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"a.zip cannot be read .*fetch it again"):
        load_captions(str(tmp_path / "a.zip"))
    with pytest.raises(UserError, match=r"captions.txt is not UTF-8"):
        load_captions(str(tmp_path / "captions.txt"))


def test_two_pictures_of_one_name_are_refused(tmp_path):
    folder(tmp_path, "captions.txt", CSV)
    (tmp_path / "3.jpg").write_bytes(jpg(0))
    with pytest.raises(UserError, match=r"3.jpg, of which there are 2: let there be one"):
        load_captions(str(tmp_path))


def test_a_hub_set_with_its_own_splits(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("datasets")
    for i, part in enumerate(("train", "validation", "test")):
        table = {"image": [{"bytes": jpg(20 * i), "path": None}], "caption_0": "A dog."}
        pd.DataFrame(table | {"caption_1": ["A cat."]}).to_parquet(tmp_path / f"{part}.parquet")
    found = load_captions(f"hub:{tmp_path}")
    assert sizes(found) == [1, 1, 1]
    assert {p.captions for p in found.pictures} == {("A dog.", "A cat.")}
    assert list(shades(found).values()) == pytest.approx([0, 20, 40], abs=2)


def test_empty_splits_and_captions_are_named(tmp_path):
    text = KARPATHY.replace("A dog 0.", " . ").replace("val", "test")
    found = load_captions(str(folder(tmp_path, "captions.json", text)))
    with pytest.raises(UserError, match=r"a caption of 0.jpg has no word"):
        found.captions("train")
    with pytest.raises(UserError, match=r"has no picture in its split 'valid'"):
        found.captions("valid")


def test_flickr8k():
    try:
        found = load_captions("flickr8k")
    except UserError as error:
        pytest.skip(str(error))
    assert sizes(found) == [6000, 1000, 1000]
    assert all(len(p.captions) == 5 for p in found.pictures)
    assert found.pictures[-1].open().size == (224, 224)
    vocabulary = Vocabulary.from_texts(found.captions("train"))
    assert 2500 < len(vocabulary) < 2600  # Karpathy's has 2,538
    assert found.columns("test", vocabulary).tensors["y"].shape[0] == 5000
