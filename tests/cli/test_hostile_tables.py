"""Parquet and Arrow tables that attack or are broken: exit 2 with one line that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_data import refused, table

pytestmark = pytest.mark.usefixtures("memory_is_bounded")


def save_dataset(root: Path, state: Any, rows: pa.Table | None = None) -> Path:
    with pa.ipc.new_stream(root / "data-0.arrow", (rows or table()).schema) as writer:
        writer.write_table(rows or table())
    (root / "state.json").write_text(json.dumps(state))
    return root


FILES = {"_data_files": [{"filename": "data-0.arrow"}]}
TABLES = [
    (lambda d: pq.write_table(table().drop(["label"]), d / "x.parquet"), "x.parquet", ["no column of labels"]),
    (lambda d: pq.write_table(table().set_column(1, "label", pa.array([0.5] * 9)), d / "x.parquet"), "x.parquet",
     ["a label is a float"]),
    (lambda d: (d / "x.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1"), "x.parquet", ["x.parquet", "damaged"]),
    (lambda d: (pq.write_table(table(), d / "x.parquet"), truncate(d / "x.parquet", 0.5)), "x.parquet", ["damaged"]),
    (lambda d: save_dataset(d, {"_data_files": [{"filename": "../x.arrow"}]}), "", ["leads out of its folder"]),
    (lambda d: save_dataset(d, {"_data_files": [{"filename": "other.arrow"}]}), "", ["other.arrow", "no such file"]),
    (lambda d: save_dataset(d, {"_data_files": 3}), "", ["lists no data files"]),
    (lambda d: save_dataset(d, {**FILES, "_indices_files": [{"filename": "i.arrow"}]}), "", ["flatten_indices"]),
    (lambda d: (save_dataset(d, FILES), truncate(d / "data-0.arrow", 0.6)), "", ["data-0.arrow", "damaged"]),
    (lambda d: (save_dataset(d, FILES), (d / "state.json").write_text("{")), "", ["state.json", "damaged"]),
    (lambda d: (save_dataset(d, FILES), exchange(d / "data-0.arrow", b"image", b"i\xffage")), "", ["data-0.arrow"]),
    (lambda d: (pq.write_table(table(), d / "x.parquet"), exchange(d / "x.parquet", b"image", b"i\xffage")),
     "x.parquet", ["damaged"]),
]  # fmt: skip


def truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def exchange(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(old, new))


@pytest.mark.parametrize(("make", "name", "words"), TABLES)
def test_tables(
    make: Callable, name: str, words: list[str], salve: Callable, colour_model: Path, tmp_path: Path
) -> None:
    make(tmp_path)
    refused(salve("inspect", colour_model, tmp_path / name), *words)


def test_rows_without_bytes_open_nothing(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    cells = [{"bytes": None, "path": "/etc/passwd"}] * 9
    bare = table().set_column(0, "image", pa.array(cells, table().schema.field("image").type))
    pq.write_table(bare, tmp_path / "x.parquet")
    done = salve(colour_model, tmp_path / "x.parquet", "--out", tmp_path / "out", "--no-cache")
    refused(done, "x.parquet/", "only a path or nothing")


def test_a_huge_value_that_is_repeated(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    """25 MB once in the dictionary of the file, 100 times in its rows: expanded it would be 2.5 GB."""
    cells = pa.array([bytes(25_000_000)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), cells)
    bomb = pa.table({"image": column, "label": pa.array([i % 3 for i in range(100)])})
    pq.write_table(bomb, tmp_path / "x.parquet", dictionary_pagesize_limit=100_000_000, store_schema=False)
    assert (tmp_path / "x.parquet").stat().st_size < 5_000_000
    done = salve(colour_model, tmp_path / "x.parquet", "--out", tmp_path / "out", "--no-cache")
    refused(done, "x.parquet", "not an image in a known format")


def test_a_split_whose_name_breaks_the_line_is_refused(salve: Callable, colour_model: Path, tmp_path: Path) -> None:
    root = tmp_path / "saved"
    root.mkdir()
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["tra\nin"]}))
    done = salve("inspect", colour_model, root)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert "'tra\\nin', which has characters that cannot be printed" in done.err
