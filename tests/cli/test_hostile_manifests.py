"""Manifests that attack or are broken: exit 2 with one line, nothing outside their folder is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_data import ROWS, as_jsonl, png, refused

pytestmark = pytest.mark.usefixtures("memory_is_bounded")


def with_row(**changes: Any) -> list[dict[str, Any]]:
    return [{**ROWS[0], **changes}, *ROWS[1:]]


MANIFESTS = [
    ("m.jsonl", as_jsonl(with_row(path="../secret.png")), ["row 1", "leads out of its folder"]),
    ("m.jsonl", as_jsonl(with_row(path="/etc/passwd")), ["row 1", "is an absolute path"]),
    ("m.jsonl", as_jsonl(with_row(path="c:/x.png")), ["row 1", "is an absolute path"]),
    ("m.jsonl", as_jsonl(with_row(path="https://example.org/x.png")), ["is a URL"]),
    ("m.jsonl", as_jsonl(with_row(path="out.png")), ["leads out of its folder through a link"]),
    ("m.jsonl", as_jsonl(with_row(path="outside/x.png")), ["leads out of its folder through a link"]),
    ("m.jsonl", as_jsonl(with_row(path="circle/x.png")), ["m.jsonl"]),
    ("m.jsonl", as_jsonl(with_row(path="")), ["is empty"]),
    ("m.jsonl", as_jsonl(with_row(path="a\0b.png")), ["zero byte"]),
    ("m.jsonl", as_jsonl(with_row(path="x" * 40_000)), ["longer than"]),
    ("m.jsonl", as_jsonl(with_row(path=7)), ["is no text"]),
    ("m.jsonl", as_jsonl(with_row(path="\ud800.png")), ["is not UTF-8"]),
    ("m.jsonl", as_jsonl(with_row(label=None)), ["1 of 6 images have no label, the first is 'a0.png'"]),
    ("m.jsonl", as_jsonl(with_row(label=[1])), ["the label of row 1 is a list"]),
    ("m.jsonl", as_jsonl(with_row(path="b0.png")), ["'b0.png' is listed twice"]),
    ("m.jsonl", as_jsonl([{"path": row["path"]} for row in ROWS]), ["no column 'label'"]),
    ("m.jsonl", "{\n", ["line 1 is not JSON"]),
    ("m.jsonl", "[1]\n", ["line 1 is a list"]),
    ("m.jsonl", "[" * 100_000, ["line 1 is not JSON"]),
    ("m.jsonl", "\n\n", ["no column 'path'"]),
    ("m.csv", "path,label\na.png\n", ["line 2 has 1 fields, the first line has 2"]),
    ("m.csv", "path,path\n", ["two columns have the same name"]),
    ("m.csv", 'path,label\n"a.png,b\n', ["damaged at line"]),
    ("m.csv", "picture,label\na,b\n", ["no column 'path' (columns: 'picture', 'label')"]),
    ("m.csv", "path,label\n", ["no images with labels"]),
    ("m.csv", "path,label,split\na0.png,a,one\nb0.png,b,two\n", ["splits called 'one', 'two'"]),
    ("m.csv", "path,label\n" + "x" * 200_000 + ",a\n", ["damaged at line 2"]),
    ("m.tsv", b"path\tlabel\n\xff\xfe\tb\n", ["is not UTF-8 text"]),
    ("m.parquet", b"PAR1 is how it begins, nothing else", ["m.parquet", "damaged"]),
]


@pytest.mark.skipif(os.name == "nt", reason="needs links")
@pytest.mark.parametrize(("name", "content", "words"), MANIFESTS)
def test_manifests(
    name: str, content: str | bytes, words: list[str], salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for row in ROWS:
        (folder / row["path"]).write_bytes(png())
    (tmp_path / "x.png").write_bytes(png())
    (folder / "out.png").symlink_to(tmp_path / "x.png")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    refused(salve("inspect", colour_model, folder / name), name, *words)


def test_a_manifest_of_files_that_are_elsewhere(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\n" + "".join(f"x/{i}.png,{'ab'[i % 2]}\n" for i in range(500)))
    refused(salve("inspect", colour_model, tmp_path / "m.csv"), "none of its first 100 files exists ('x/0.png')")


@pytest.mark.skipif(os.name == "nt", reason="needs pipes")
def test_a_pipe_in_a_manifest_is_not_waited_for(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    for row in ROWS[1:]:
        (tmp_path / row["path"]).write_bytes(png())
    os.mkfifo(tmp_path / ROWS[0]["path"])
    (tmp_path / "m.jsonl").write_text(as_jsonl(ROWS))
    done = salve(colour_model, tmp_path / "m.jsonl", "--out", tmp_path / "out", "--no-cache")
    refused(done, ROWS[0]["path"], "no plain file")
    for name in ("x.pt", "x.onnx", "x.safetensors", "config.json"):
        os.mkfifo(tmp_path / name)
    for name in ("x.pt", "x.onnx", "x.safetensors"):
        refused(salve("inspect", tmp_path / name), "is neither a file nor a folder")
    (tmp_path / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    refused(salve("inspect", tmp_path), "config.json", "no plain file")
