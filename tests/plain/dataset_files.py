"""Writes a few images in every form that DATA may take."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = ("blue", "green", "red")


class SavedImage(NamedTuple):
    """An image of the generated world."""

    split: str
    name: str
    path: str
    content: bytes
    pixels: np.ndarray


def write_folder(root: Path, images: list[SavedImage], split_names: dict[str, str] | None = None) -> Path:
    for image in images:
        split = (split_names or {}).get(image.split, image.split)
        file = root / split / image.name / Path(image.path).name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(image.content)
    return root


def write_manifest(root: Path, images: list[SavedImage], ending: str) -> Path:
    write_folder(root, images)
    rows = [
        {"path": p.path, "label": p.name, "split": p.split, "camera": f"=cmd({i % 2})"} for i, p in enumerate(images)
    ]
    file = root / f"list.{ending}"
    if ending == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0], delimiter={"csv": ",", "tsv": "\t"}[ending])
            writer.writeheader()
            writer.writerows(rows)
    return file


def write_zip(root: Path, images: list[SavedImage], method: int = zipfile.ZIP_DEFLATED, top: str = "") -> Path:
    with zipfile.ZipFile(root / "data.zip", "w", method) as archive:
        for image in images:
            archive.writestr(top + image.path, image.content)
    return root / "data.zip"


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_tar(root: Path, images: list[SavedImage], mode: str = "w") -> Path:
    path = root / ("data.tar.gz" if mode == "w:gz" else "data.tar")
    with tarfile.open(path, mode) as archive:
        for image in images:
            add(archive, f"./{image.path}", image.content)
    return path


def write_shards(root: Path, images: list[SavedImage], ending: str) -> Path:
    """WebDataset: train-0.tar, train-1.tar and val-0.tar."""
    root.mkdir(exist_ok=True)
    for split, n_shards in (("train", 2), ("val", 1)):
        own = [image for image in images if image.split == split]
        for shard in range(n_shards):
            with tarfile.open(root / f"{split}-{shard}.tar", "w") as archive:
                for i in range(shard, len(own), n_shards):
                    label = str(NAMES.index(own[i].name))
                    text = label if ending == "cls" else json.dumps({"label": int(label), "caption": "a, b"})
                    add(archive, f"{i:05}.png", own[i].content)
                    add(archive, f"{i:05}.{ending}", text.encode())
    return root


def arrays_of(images: list[SavedImage]) -> dict[str, np.ndarray]:
    arrays = {}
    for split, word in (("train", "train"), ("val", "test")):
        own = [image for image in images if image.split == split]
        arrays[f"x_{word}"] = np.stack([image.pixels for image in own])
        arrays[f"y_{word}"] = np.array([NAMES.index(image.name) for image in own])
    return arrays


def write_npz(root: Path, images: list[SavedImage], kind: str) -> Path:
    arrays = arrays_of(images)
    if kind == "channels first":
        arrays = {name: array.transpose(0, 3, 1, 2) if array.ndim == 4 else array for name, array in arrays.items()}
    if kind == "medmnist":
        renamed = {"x_train": "train_images", "y_train": "train_labels", "x_test": "val_images", "y_test": "val_labels"}
        arrays = {renamed[name]: array[:, None] if array.ndim == 1 else array for name, array in arrays.items()}
    (np.savez_compressed if kind == "compressed" else np.savez)(root / "data.npz", **arrays)
    return root / "data.npz"


def write_npy(root: Path, images: list[SavedImage]) -> Path:
    (root / "npy").mkdir()
    for name, array in arrays_of(images).items():
        np.save(root / "npy" / f"{name}.npy", array)
    return root / "npy"


def write_idx(root: Path, images: list[SavedImage], zipped: bool) -> Path:
    (root / "raw").mkdir()
    for name, array in arrays_of(images).items():
        part = "train" if name.endswith("train") else "t10k"
        grey = (
            array
            if array.ndim == 1
            else np.stack([np.asarray(Image.fromarray(pixels).convert("L")) for pixels in array])
        )
        kind = "labels" if array.ndim == 1 else "images"
        header = struct.pack(f">HBB{grey.ndim}I", 0, 8, grey.ndim, *grey.shape)
        content = header + grey.astype(np.uint8).tobytes()
        file = root / "raw" / f"{part}-{kind}-idx{grey.ndim}-ubyte{'.gz' if zipped else ''}"
        file.write_bytes(gzip.compress(content, 1) if zipped else content)
    return root / "raw"


FEATURES = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}


def table_of(images: list[SavedImage]) -> pa.Table:
    """As Hugging Face `datasets` writes it: a struct of bytes and path, numbers, names in the schema's metadata."""
    cells = [{"bytes": image.content, "path": f"/home/someone/{image.path}"} for image in images]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table(
        {
            "image": pa.array(cells, kind),
            "label": pa.array([NAMES.index(image.name) for image in images], pa.int64()),
        }
    )
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def write_parquet(root: Path, images: list[SavedImage]) -> Path:
    (root / "hub" / "data").mkdir(parents=True)
    for split in ("train", "val"):
        table = table_of([image for image in images if image.split == split])
        pq.write_table(table, root / "hub" / "data" / f"{split}-00000-of-00001.parquet", row_group_size=7)
    return root / "hub"


def write_saved(root: Path, images: list[SavedImage]) -> Path:
    for split in ("train", "val"):
        folder = root / "saved" / split
        folder.mkdir(parents=True)
        table = table_of([image for image in images if image.split == split])
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=8)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_indices_files": None}
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    (root / "saved" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "val"]}))
    return root / "saved"


SAME = {
    "folder: valid": lambda root, p: write_folder(root / "d", p, {"train": "Train", "val": "valid"}),
    "folder: eval, nested": lambda root, p: write_folder(root / "d" / "e" / "f", p, {"val": "eval"}).parent.parent,
    "zip": write_zip,
    "zip: stored, in a folder": lambda root, p: write_zip(root, p, zipfile.ZIP_STORED, "colours/"),
    "tar": write_tar,
    "tar.gz": lambda root, p: write_tar(root, p, "w:gz"),
    "csv": lambda root, p: write_manifest(root, p, "csv"),
    "tsv": lambda root, p: write_manifest(root, p, "tsv"),
    "jsonl": lambda root, p: write_manifest(root, p, "jsonl"),
    "manifest parquet": lambda root, p: write_manifest(root, p, "parquet"),
    "npz": lambda root, p: write_npz(root, p, "plain"),
    "npz: compressed": lambda root, p: write_npz(root, p, "compressed"),
    "npz: channels first": lambda root, p: write_npz(root, p, "channels first"),
    "npz: medmnist": lambda root, p: write_npz(root, p, "medmnist"),
    "npy": write_npy,
}
OTHER_ORDER = {
    "webdataset: cls, folder": lambda root, p: write_shards(root / "shards", p, "cls"),
    "webdataset: json, glob": lambda root, p: f"{write_shards(root / 'shards', p, 'json')}/*.tar",
    "webdataset: braces": lambda root, p: f"{write_shards(root / 'shards', p, 'cls')}/{{train-{{0..1}},val-0}}.tar",
    "hub parquet": write_parquet,
    "save_to_disk": write_saved,
    "idx": lambda root, p: write_idx(root, p, zipped=False),
    "idx.gz": lambda root, p: write_idx(root, p, zipped=True),
}
