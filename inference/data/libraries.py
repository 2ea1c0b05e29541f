"""What data need from elsewhere: optional libraries, and the folders of named sets."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from inference.util.errors import UserError


def datasets_library() -> Any:
    """The library ``datasets``, its progress bars off.

    Raises:
        UserError: it is not installed.
    """
    datasets = optional("datasets", "data", "this source needs")
    datasets.disable_progress_bars()
    return datasets


def gensim_module(name: str) -> Any:
    """A module of the library ``gensim``, such as ``gensim.utils``.

    Raises:
        UserError: it is not installed.
    """
    return optional(name, "words", "word vectors need")


def optional(module: str, extra: str, why: str) -> Any:
    """A module of an optional dependency.

    Raises:
        UserError: it is not installed; the sentence names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"{why} the extra: pip install 'lowerbound[{extra}]'") from None


def gensim_file(name: str) -> Path:
    """The path of a file of gensim's test data.

    Raises:
        UserError: gensim is not installed, or lacks this file.
    """
    path = Path(gensim_module("gensim").__file__).parent / "test" / "test_data" / name
    if not path.is_file():
        raise UserError(f"gensim lacks {name}: pip install --force-reinstall gensim")
    return path


def find_folder(name: str) -> Path:
    """The folder of this name under LOWERBOUND_DATA, ``data`` or ``../shared/data``.

    Raises:
        UserError: there is no such folder.
    """
    roots = [os.environ.get("LOWERBOUND_DATA"), "data", "../shared/data"]
    candidates = [Path(root) / name for root in roots if root]
    for folder in candidates:
        if folder.is_dir():
            return folder
    looked = ", ".join(map(str, candidates))
    raise UserError(
        f"no folder {name!r} (looked for {looked}): put its files there, or set LOWERBOUND_DATA"
    )
