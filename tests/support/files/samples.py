"""One whole file, or folder, of each kind that is read, and the command that reads it."""

import bz2
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

RNG = np.random.default_rng(0)
ROWS = 24
BYTES = RNG.integers(0, 256, (ROWS, 5, 5), np.uint8)
LABELS = np.arange(ROWS) % 3
WORDS = "the cat sat on the mat and the dog ran to a red house\n" * 30
PAGE = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><page><title>Cat</title><ns>0</ns>'
    f"<id>1</id><revision><text>The cat. {WORDS * 3}</text></revision></page></mediawiki>"
)


class Kind(NamedTuple):
    """Files by name (relative to a folder), those to damage, and the command that reads them."""

    files: dict[str, bytes]
    damaged: tuple[str, ...]
    command: Callable


def saved(save, *arguments, **more):
    out = io.BytesIO()
    save(out, *arguments, **more)
    return out.getvalue()


def picture(array, kind="png", mode=None):
    image = Image.fromarray(array)
    return saved((image.convert(mode) if mode else image).save, format=kind)


def idx(array):
    dims = np.array(array.shape, ">u4").tobytes()
    return bytes((0, 0, 8, array.ndim)) + dims + array.astype("u1").tobytes()


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def vae(data, out):
    return ("fit", "vae", "--data", data, "--batch-size", 4, "--out", out)


def captioner(data, out):
    features = ("--encoder", "pixels", "--minimum", 1, "--features", out / "features")
    return ("fit", "captioner", "--data", data, *features, "--out", out)


def skipgram(data, out):
    return ("fit", "skipgram", "--data", data, "--tokens", "words", "--out", out)


def language_model(data, out):
    return ("fit", "nce_lm", "--data", data, "--out", out)


def rationales(data, out):
    return ("fit", "rationales", "--data", data, "--minimum", 1, "--out", out)


def with_vectors(data, out):
    return ("fit", "rationales", "--vectors", data, "--out", out)


def poisson(data, out):
    return ("fit", "tests/support/recipes/poisson.py", "--data", data, "--out", out)


def house_numbers(data, out):
    return ("fit", "glimpses", "--data", f"svhn:{data}", "--out", out)


def binarized(data, out):
    return ("fit", "sbn", "--data", "binarized-mnist", "--out", out)


def neighbours(data, out):
    return ("neighbours", data, "cat")


def alone(name, data, command):
    """A kind of one file, which is itself the data."""
    return Kind({name: data}, (name,), lambda folder, out: command(folder / name, out))


def together(files, command, *damaged):
    """A kind of a folder."""
    return Kind(files, damaged or tuple(files), lambda folder, out: command(folder, out))


SHADES = {f"{i}.jpg": picture(np.full((9, 7, 3), 10 * i, np.uint8), "jpeg") for i in range(ROWS)}
CAPTIONS = "image,caption\n" + "".join(f'{n},"A dog, {i}."\n' for i, n in enumerate(SHADES))
TOKENS = "".join(f"{n}#{j}\tA dog {j} .\n" for n in SHADES for j in range(2))
SPLITS = ["train"] * 18 + ["val"] * 3 + ["test"] * 3
KARPATHY = json.dumps(
    {
        "images": [
            {"filename": n, "split": s, "sentences": [{"raw": "A dog."}, {"tokens": ["a", "cat"]}]}
            for n, s in zip(SHADES, SPLITS, strict=True)
        ]
    }
)
TABLE = pd.DataFrame({"a": np.arange(ROWS) / 7, "b": LABELS, "count": LABELS + 1})
FRAME = {
    "x": [list(map(float, row)) for row in BYTES.reshape(ROWS, -1)],
    "label": LABELS,
    "image": [{"bytes": data, "path": None} for data in SHADES.values()],
}
CAPTIONED = {"image": FRAME["image"], "caption": ["A dog."] * ROWS}
IDX = {
    f"{part}-{kind}-idx{array.ndim}-ubyte{end}": gzip.compress(idx(array)) if end else idx(array)
    for part, end in (("train", ""), ("t10k", ".gz"))
    for kind, array in (("images", BYTES), ("labels", LABELS))
}
COLOURS = RNG.integers(0, 256, (8, 8, 4), np.uint8)
IMAGES = {
    f"{kind}/{i}.{kind}": picture(COLOURS[..., :3] if kind in ("jpeg", "ppm") else COLOURS, kind)
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm")
    for i in range(4)
}
DEEP = {f"a/{i}.png": picture(BYTES[i].astype(np.uint16) * 257) for i in range(12)}
ROW = {
    "label": "POS",
    "sentences": ["one two three .", "four ."],
    "rationale_token_spans": [[0, 2]],
}
JSONL = "".join(json.dumps({**ROW, "label": "PN"[i % 2]}) + "\n" for i in range(ROWS)).encode()
REVIEWS = "text,label\n" + '"Good, really. Go!",1\nbad.,0\n' * 12
VECTORS = "6 3\n" + "".join(
    f"{w} {i} 1 {i * i}\n" for i, w in enumerate(["the", "cat", "dog", "a", "on", "to"])
)
BINARY = b"3 2\n" + b"".join(
    w + b" " + np.array([1, i], "<f4").tobytes() + b"\n"
    for i, w in enumerate((b"the", b"cat", b"a"))
)
BROWN = b"\tThe/at cat/nn-tl sat/vbd ./.\n" * 40
SVHN = {"X": RNG.integers(0, 256, (32, 32, 3, ROWS), np.uint8), "y": LABELS[:, None] + 1}
PACKED = {part: RNG.integers(0, 256, (ROWS, 98), np.uint8) for part in ("train", "valid", "test")}

KINDS = {
    "npz": alone("a.npz", saved(np.savez, x=BYTES, label=LABELS), vae),
    "npz packed": alone("a.npz", saved(np.savez_compressed, x_train=BYTES, x_test=BYTES), vae),
    "npy": alone("a.npy", saved(np.save, BYTES), vae),
    "mat": alone(
        "a.mat", saved(savemat, {"train": BYTES, "test": BYTES, "train_labels": LABELS}), vae
    ),
    "mat packed": alone("a.mat", saved(savemat, {"x": BYTES}, do_compression=True), vae),
    "csv": alone("a.csv", TABLE.to_csv().encode(), poisson),
    "parquet": alone("a.parquet", pd.DataFrame(FRAME).to_parquet(), vae),
    "idx": together(IDX, vae),
    "pictures": together(IMAGES, vae),
    "deep pictures": together(DEEP, vae),
    "captions csv": together({"captions.txt": CAPTIONS.encode(), **SHADES}, captioner),
    "captions token": together(
        {"a.token.txt": TOKENS.encode(), **SHADES}, captioner, "a.token.txt"
    ),
    "captions json": together(
        {"captions.json": KARPATHY.encode(), **SHADES}, captioner, "captions.json"
    ),
    "captions zip": alone("a.zip", zipped({"captions.txt": CAPTIONS, **SHADES}), captioner),
    "captions parquet": alone("a.parquet", pd.DataFrame(CAPTIONED).to_parquet(), captioner),
    "corpus": alone("a.txt", WORDS.encode(), skipgram),
    "corpus gz": alone("a.gz", gzip.compress(WORDS.encode()), skipgram),
    "corpus bz2": alone("a.bz2", bz2.compress(PAGE.encode()), skipgram),
    "corpus tgz": alone("a.tgz", tarred({"brown/ca01": BROWN}), skipgram),
    "corpus Brown": alone("ca01", BROWN, skipgram),
    "text": alone("a.txt", WORDS.encode(), language_model),
    "jsonl": alone("a.jsonl", JSONL, rationales),
    "jsonl gz": alone("a.jsonl.gz", gzip.compress(JSONL), rationales),
    "reviews": alone("a.csv", REVIEWS.encode(), rationales),
    "initial vectors": alone("v.txt", VECTORS.encode(), with_vectors),
    "vectors": alone("v.txt", VECTORS.encode(), neighbours),
    "vectors gz": alone("v.vec.gz", gzip.compress(VECTORS.encode()), neighbours),
    "vectors bin": alone("v.bin", BINARY, neighbours),
    "vectors bin gz": alone("v.bin.gz", gzip.compress(BINARY), neighbours),
    "house numbers": together(
        {f"{p}_32x32.mat": saved(savemat, SVHN) for p in ("train", "test")}, house_numbers
    ),
    "binarized": together(
        {"binarized_mnist/binarized_mnist_packed.npz": saved(np.savez, **PACKED)}, binarized
    ),
}
