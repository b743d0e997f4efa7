"""Small valid files for the fuzzer, one of every kind that is read, each with the loader that reads it.

Loaders go on to what an audit does with the file: images are read and decoded, the head is verified on a batch.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save as save_safetensors
from torch import nn

from salve_audit.errors import DataError
from salve_audit.inputs.arrays.arrayset import load_arrays
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.data.decoding import decode_image
from salve_audit.inputs.labels.class_file import read_class_file
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.head.verification import verify_head
from salve_audit.results.audit import parse_audit
from salve_audit.sae.files import FORMAT, read_sae
from salve_audit.sae.variants import VARIANTS
from salve_audit.settings import read_settings

KWARGS = {"channels": (8, 8, 16, 32), "stem_width": 8}
ROW_LABELS = np.arange(9) % 3
FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}


@dataclass(frozen=True)
class Seed:
    """A valid file and who reads it.

    Attributes:
        name: of the file, below the folder that is `load`'s.
        content: of the file; what is mutated.
        load: called with the path of the file.
        beside: further files that it needs, by name; never mutated.
        only_refused: a program, which is never loaded without trust.
    """

    name: str
    content: bytes
    load: Callable[[Path], Any]
    beside: dict[str, bytes] = field(default_factory=dict)
    only_refused: bool = False


def make_seeds() -> list[Seed]:
    """One small valid file of every kind."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript announces its own end
        return [*_models(), *_programs(), *_images(), *_archives(), *_lists(), *_tables(), *_arrays(), *_others()]


def load_model(path: Path) -> None:
    """Loads the network and verifies its head."""
    classifier = load_classifier(path)
    channels, *sides = classifier.transform.input_size
    verify_head(classifier, torch.zeros(2, channels, *(min(side, 64) for side in sides)))


def refuse(path: Path) -> None:
    """Programs must end in an error without ``--trust-model``."""
    load_classifier(path)
    raise AssertionError(f"{path.name}: a program was loaded")


def load_data(path: Path, root: int = 0) -> None:
    """Reads the data set at `path`, or so many folders above it, and decodes its images."""
    images = load_images(path.parents[root - 1] if root else path, 0)
    for key in images.fit.paths + images.audit.paths:
        with suppress(OSError, ValueError, DataError):  # what the audit counts as skipped
            decode_image(images.reader.read(key), key, 3, 32)


def load_folder(path: Path) -> None:
    """A model's folder by its file."""
    load_model(path.parent)


def decode(path: Path) -> None:
    """One image."""
    for n_channels in (1, 3):
        decode_image(path.read_bytes(), path.name, n_channels, 4)


def parse(path: Path) -> None:
    """A saved audit."""
    parse_audit(path.read_text("utf-8", errors="replace"))


def settings(path: Path) -> None:
    """A configuration file."""
    read_settings(path, path.parent)


def _models() -> list[Seed]:
    state = timm.create_model("resnet10t", num_classes=3, **KWARGS).state_dict()
    checkpoint = {"arch": "resnet10t", "state_dict": state, "args": {"num_classes": 3, "model_kwargs": KWARGS}}
    bare = save_safetensors(timm.create_model("test_resnet", num_classes=3).state_dict())
    config = {"architecture": "test_resnet", "num_classes": 3, "label_names": ["a", "b", "c"],
              "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.1] * 3, "std": [0.2] * 3}}  # fmt: skip
    return [
        Seed("zipped.pt", _saved(checkpoint), load_model),
        Seed("legacy.pt", _saved(checkpoint, zipped=False), load_model),
        Seed("bare.safetensors", bare, load_model),
        Seed("hub/config.json", json.dumps(config).encode(), load_folder, {"hub/model.safetensors": bare}),
        Seed("graph.onnx", _onnx(), load_model),
    ]


def _programs() -> list[Seed]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    script, program = io.BytesIO(), io.BytesIO()
    batch = torch.zeros(1, 3, 2, 2)
    torch.jit.save(torch.jit.trace(model, batch), script)
    torch.export.save(torch.export.export(model, (batch,)), program)
    return [
        Seed("script.pt", script.getvalue(), refuse, only_refused=True),
        Seed("program.pt2", program.getvalue(), refuse, only_refused=True),
        Seed("pickled.pt", _saved(model), refuse, only_refused=True),
    ]


def _images() -> list[Seed]:
    endings = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF", "gif": "GIF"}
    return [Seed(f"image.{ending}", encode(0, kind, 24), decode) for ending, kind in endings.items()]


def _archives() -> list[Seed]:
    members = {f"{'abc'[i % 3]}/{i}.png": encode(i) for i in range(9)}
    web = {
        f"{i:03}.{kind}": encode(i) if kind == "png" else b"%d" % (i % 3) for i in range(9) for kind in ("png", "cls")
    }
    return [
        Seed("images.zip", _zip(members, zipfile.ZIP_DEFLATED), load_data),
        Seed("stored.zip", _zip(members, zipfile.ZIP_STORED), load_data),
        Seed("images.tar", _tar(members), load_data),
        Seed("images.tar.gz", gzip.compress(_tar(members), mtime=0), load_data),
        Seed("web/train-0.tar", _tar(web), load_data),
    ]


def _lists() -> list[Seed]:
    beside = {f"{folder}/{i}.png": encode(i) for i in range(9) for folder in ("csv", "jsonl", "parquet")}
    rows = [{"path": f"{i}.png", "label": "abc"[i % 3], "camera": "x"} for i in range(9)]
    lines = ["path,label,camera", *(",".join(row.values()) for row in rows)]
    return [
        Seed("csv/list.csv", "\n".join(lines).encode(), load_data, beside),
        Seed("jsonl/list.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode(), load_data, beside),
        Seed("parquet/list.parquet", _parquet(pa.Table.from_pylist(rows)), load_data, beside),
    ]


def _tables() -> list[Seed]:
    cells = [{"bytes": encode(i), "path": "x.png"} for i in range(9)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(cells, kind), "label": pa.array(ROW_LABELS)})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    stream, file = io.BytesIO(), io.BytesIO()
    for sink, make in ((stream, pa.ipc.new_stream), (file, pa.ipc.new_file)):
        with make(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    saved = {
        "train/data.arrow": stream.getvalue(),
        "train/state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode(),
        "train/dataset_info.json": json.dumps({"features": FEATURES}).encode(),
        "dataset_dict.json": json.dumps({"splits": ["train"]}).encode(),
    }
    seeds = [
        Seed("images.parquet", _parquet(table), load_data),
        Seed("images.arrow", stream.getvalue(), load_data),
        Seed("random.arrow", file.getvalue(), load_data),
    ]
    for number, (name, content) in enumerate(saved.items()):
        beside = {f"saved{number}/{other}": saved[other] for other in saved if other != name}
        load = partial(load_data, root=name.count("/") + 1)
        seeds.append(Seed(f"saved{number}/{name}", content, load, beside))
    return seeds


def _arrays() -> list[Seed]:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    labels = (np.arange(30) % 3).astype(np.int64)
    acts = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    arrays = {"acts": acts, "labels": labels, "weight": np.eye(3, 4, dtype=np.float32), "bias": np.zeros(3, np.float32)}
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    idx, digits = (
        struct.pack(">HBB3I", 0, 8, 3, 9, 4, 4) + bytes(144),
        struct.pack(">HBBI", 0, 8, 1, 9) + ROW_LABELS.astype(np.uint8).tobytes(),
    )
    label_file = {f"{folder}/train-labels-idx1-ubyte": digits for folder in ("idx", "gz")}
    columns = np.asfortranarray(images)
    return [
        Seed("x.npz", _npz(**arrays), partial(load_arrays, seed=0)),
        Seed("x.safetensors", save_safetensors(tensors), partial(load_arrays, seed=0)),
        Seed("images.npz", _npz(images=images, labels=ROW_LABELS), load_data),
        Seed("packed.npz", _npz(np.savez_compressed, images=images, labels=ROW_LABELS), load_data),
        Seed("columns.npz", _npz(images=columns, labels=ROW_LABELS), load_data),
        Seed("npy/x_train.npy", _npy(images), load_data, {"npy/y_train.npy": _npy(ROW_LABELS)}),
        Seed("idx/train-images-idx3-ubyte", idx, load_data, label_file),
        Seed("gz/train-images-idx3-ubyte.gz", gzip.compress(idx, mtime=0), load_data, label_file),
    ]


def _others() -> list[Seed]:
    saved = Path(__file__).parents[1] / "sample_reports" / "demo" / "audit.json"
    audit = saved.read_bytes() if saved.is_file() else json.dumps({"schema_version": 1}).encode()
    return [
        Seed("sae.safetensors", _sae(), read_sae),
        Seed("settings.toml", b'seed = 3\nlimit = 10\nformat = ["json"]\nfail-under = 1.5\n', settings),
        Seed("classes.csv", b"zebra,0\nape,1\nmonkey,2\n", read_class_file),
        Seed("classes.json", b'{"zebra": 0, "ape": "monkey", "dog": 2}', read_class_file),
        Seed("audit.json", audit, parse),
    ]


def _saved(content: Any, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def _onnx() -> bytes:
    rng = np.random.default_rng(0)
    stored = {"kernel": rng.normal(size=(4, 3, 4, 4)), "head": rng.normal(size=(3, 4)), "bias": np.zeros(3)}
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["map"], "stem", strides=[4, 4]),
        helper.make_node("Relu", ["map"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["acts"]),
        helper.make_node("Gemm", ["acts", "head", "bias"], ["y"], "fc", transB=1),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])
    returned = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "colours", [given], [returned], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"mean": "[0.5, 0.5, 0.5]", "class_names": "{0: 'a', 1: 'b', 2: 'c'}"})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def encode(seed: int, kind: str = "PNG", side: int = 4) -> bytes:
    """An image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def _npz(write: Callable[..., None] = np.savez, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    write(stream, **arrays)
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, row_group_size=4)
    return stream.getvalue()


def _zip(members: dict[str, bytes], method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _sae() -> bytes:
    tensors = {
        "dictionary": torch.eye(4).repeat(2, 1),
        "encoder_weight": torch.zeros(8, 4),
        "encoder_bias": torch.zeros(8),
        "decoder_bias": torch.zeros(4),
    }
    metadata = {"format": FORMAT, "variant": next(iter(VARIANTS)), "hyperparameters": "{}"}
    return save_safetensors(tensors, metadata)
