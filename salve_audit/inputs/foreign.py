"""Files that stand for others, or are of another kind than expected, by their first bytes."""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD_BYTES = 512
LFS = b"version https://git-lfs.github.com/spec/"
ANNEX = re.compile(rb"^(?:\.\./)*\.?/?(?:git/)?annex/objects/")
DVC = re.compile(rb"^(?:md5: .*\n)?outs:\s*\n-\s", re.MULTILINE)
MAGIC = {
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "compressed by bzip2",
    b"\xfd7zX": "compressed by xz",
    b"(\xb5/\xfd": "compressed by zstd",
    b"\x80\x02": "a pickle, which is code",
    b"\x80\x03": "a pickle, which is code",
    b"\x80\x04": "a pickle, which is code",
    b"\x80\x05": "a pickle, which is code",
    b"\x89HDF": "an HDF5 file",
}
MODELS = {
    b"GGUF": "a GGUF file (llama.cpp)",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "a Parquet table",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF document",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    **{magic: words for magic, words in MAGIC.items() if not words.startswith(("a pickle", "an HDF5"))},
}


class Foreign(NamedTuple):
    """What a file is, as the rest of the sentence after its name, and what to do; None: nothing that is known."""

    what: str
    remedy: str | None = None


def describe_placeholder(head: bytes) -> Foreign | None:
    """A file that only stands for another one, by its first `HEAD_BYTES`; None: it stands for itself."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(LFS):
        return Foreign("is a Git LFS pointer, the file itself was not fetched", "git lfs pull fetches it")
    if ANNEX.match(text):
        return Foreign("is a git-annex pointer, the file itself was not fetched", "git annex get fetches it")
    if DVC.match(text):
        return Foreign("is a DVC file, which names another one", "dvc pull fetches that; name it instead")
    start = text[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        remedy = "download it again; a server has answered with a page (a login, a warning, an error)"
        return Foreign("is a web page, no such file", remedy)
    if start.startswith(b"<?xml") and b"<error>" in text.lower():
        return Foreign("is the error message of a storage server", "download it again")
    return None


def describe_foreign(head: bytes) -> Foreign | None:
    """A data file of a kind that is not read, or one that stands for another."""
    words = next((words for magic, words in MAGIC.items() if head.startswith(magic)), None)
    return Foreign(f"is {words}") if words is not None else describe_placeholder(head)


def describe_foreign_model(head: bytes) -> Foreign | None:
    """A file that is no PyTorch checkpoint, or one that stands for another."""
    words = next((words for magic, words in MODELS.items() if head.startswith(magic)), None)
    if words is None and head[4:8] == b"TFL3":
        words = "a TensorFlow Lite model"
    if words is None:
        return describe_placeholder(head)
    remedy = f"unpack it first ({words.rpartition(' ')[2]})" if words.startswith("compressed") else None
    return Foreign(f"is {words}, no checkpoint of PyTorch", remedy)
