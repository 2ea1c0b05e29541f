"""Mutations of a file: of its bytes, and of what is packed in it."""

import bz2
import gzip
import io
import json
import re
import warnings
import zipfile

EXTREMES = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1)
NUMBERS = (
    "-1",
    "0",
    "nan",
    "inf",
    "1e999",
    "99999999999999999999",
    "0x1",
    "1,5",
    "''",
    "(1,)",
    "None",
)
TEXTS = (
    *(
        "",
        "\0",
        "\r",
        "\x1b[31m",
        "[/b]",
        "é",
        "e\u0301",
        "क\u094d\u200dष",
        "\u2028",
        "\ufeff",
        '"',
    ),
    *(
        "/dev/zero",
        "../../etc/passwd",
        "C:\\a.jpg",
        "a" * 200_000,
        "{",
        "[" * 5000,
        "\ud7ff",
        "\U0001f600",
    ),
)
JUNK = (
    None,
    True,
    -1,
    1e308,
    10**400,
    "",
    "a",
    [],
    {},
    [[[]]],
    ["a", None],
    {"raw": None},
    "\x1b[0m",
)


def mutated(data, rng, depth=0):
    """The bytes with one to four mutations, of their structure where they have one."""
    if depth < 2 and rng.random() < 0.5:
        for unpack in (_gzip, _bz2, _zip, _json, _lines):
            if (found := unpack(data, rng, depth)) is not None:
                return found
    for _ in range(rng.integers(1, 5)):
        data = BYTEWISE[rng.integers(len(BYTEWISE))](data, rng)
    return data


def _place(data, rng):
    """A place in the bytes; headers and footers are where most is to be broken."""
    near = min(len(data), 200)
    where = rng.integers(4)
    if where == 0:
        return int(rng.integers(near + 1))
    return (
        len(data) - int(rng.integers(near + 1)) if where == 1 else int(rng.integers(len(data) + 1))
    )


def _flip(data, rng):
    at = _place(data, rng)
    return data[:at] + bytes(b ^ (1 << rng.integers(8)) for b in data[at : at + 1]) + data[at + 1 :]


def _extreme(data, rng):
    at, width = _place(data, rng), int(rng.choice((1, 2, 4, 8)))
    value = EXTREMES[rng.integers(len(EXTREMES))] % 256**width
    return (
        data[:at] + value.to_bytes(width, str(rng.choice(("big", "little")))) + data[at + width :]
    )


def _cut(data, rng):
    return data[: _place(data, rng)]


def _drop(data, rng):
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.integers(1, 40)) :]


def _repeat(data, rng):
    at, size = _place(data, rng), int(rng.integers(1, 400))
    return data[:at] + data[at : at + size] * int(rng.integers(1, 30)) + data[at:]


def _insert(data, rng):
    at = _place(data, rng)
    text = TEXTS[rng.integers(len(TEXTS))].encode("utf-8", "surrogatepass")
    return data[:at] + (rng.bytes(8) if rng.random() < 0.3 else text) + data[at:]


def _number(data, rng):
    found = list(re.finditer(rb"\d+", data[:20_000]))
    if not found:
        return data
    chosen = found[rng.integers(len(found))]
    return data[: chosen.start()] + str(rng.choice(NUMBERS)).encode() + data[chosen.end() :]


def _recoded(data, rng):
    return data.decode("latin-1").encode(
        str(rng.choice(("utf-16", "utf-16-le", "utf-8-sig", "utf-32")))
    )


def _swap(data, rng):
    a, b = sorted((_place(data, rng), _place(data, rng)))
    return data[b:] + data[a:b] + data[:a]


BYTEWISE = (
    _flip,
    _flip,
    _extreme,
    _extreme,
    _cut,
    _drop,
    _repeat,
    _insert,
    _number,
    _number,
    _recoded,
    _swap,
)


def _gzip(data, rng, depth):
    if data[:2] == b"\x1f\x8b":
        return gzip.compress(mutated(gzip.decompress(data), rng, depth + 1), 1, mtime=0)
    return None


def _bz2(data, rng, depth):
    return (
        bz2.compress(mutated(bz2.decompress(data), rng, depth + 1)) if data[:3] == b"BZh" else None
    )


def _zip(data, rng, depth):
    """One member mutated, renamed, dropped, or blown up."""
    if data[:2] != b"PK":
        return None
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        chosen, how = rng.choice(old.namelist()), rng.integers(8)
        for name in old.namelist():
            content = old.read(name)
            if name == chosen and how < 5:
                content = mutated(content, rng, depth + 1)
            elif name == chosen and how == 5:
                name = str(rng.choice(("../../evil.npy", "x_train.npy", "a/b", "é.npy", ".npy")))
            elif name == chosen and how == 6:
                continue
            elif name == chosen:
                content += bytes(int(rng.integers(1 << 20)))
            with warnings.catch_warnings(action="ignore"):  # of two members of one name
                new.writestr(name, content)
    return out.getvalue()


def _json(data, rng, depth):
    """A value of a document, or of one of its lines, replaced by another."""
    if data[:1] not in b"{[" or len(data) < 2:
        return None
    lines = data.decode(errors="replace").split("\n")
    at = int(rng.integers(max(1, len(lines) - 1)))
    try:
        document = json.loads(lines[at])
    except ValueError:
        return None
    lines[at] = json.dumps(_replaced(document, rng))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _replaced(value, rng):
    inner = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    if not inner or rng.random() < 0.15:
        return JUNK[rng.integers(len(JUNK))]
    key = inner[rng.integers(len(inner))]
    if rng.random() < 0.1 and isinstance(value, dict):
        return {k: v for k, v in value.items() if k != key}
    changed = _replaced(value[key], rng)
    return (
        {**value, key: changed}
        if isinstance(value, dict)
        else [*value[:key], changed, *value[key + 1 :]]
    )


def _lines(data, rng, depth):
    """A cell of a line of text replaced, or the lines' ends."""
    if b"\0" in data[:500] or data.count(b"\n") < 2:
        return None
    lines = data.split(b"\n")
    if rng.random() < 0.1:
        return data.replace(b"\n", bytes(rng.choice((b"\r", b"\r\n", b"\n\n"))))
    at = int(rng.integers(min(len(lines), 3 + int(rng.integers(len(lines))))))
    cells = re.split(rb"([ ,\t#])", lines[at])
    chosen = int(rng.integers(len(cells)))
    text = rng.choice(NUMBERS) if rng.random() < 0.5 else TEXTS[rng.integers(len(TEXTS))]
    cells[chosen] = str(text).encode("utf-8", "surrogatepass")
    lines[at] = b"".join(cells)
    return b"\n".join(lines)
