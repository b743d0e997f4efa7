"""Small images, archives and tables of three classes, and the check of a refusal."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image


def png(seed: int = 0, side: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def refused(done: Any, *words: str) -> None:
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 2, done.err + done.out
    assert len(errors) == 1, done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    assert done.out == ""
    for word in words:
        assert word in done.err, done.err


def members() -> dict[str, bytes]:
    return {f"{split}/{name}/{i}.png": png(i) for split in ("train", "val") for name in "abc" for i in range(3)}


def make_zip(path: Path, extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members(), **(extra or {})}.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, *extra: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info, content in extra:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


IMAGES, LABELS = np.zeros((6, 4, 4, 3), np.uint8), np.array([0, 1, 2, 0, 1, 2])
ROWS = [{"path": f"{name}{i}.png", "label": name} for name in "abc" for i in range(2)]


def as_jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(n: int = 9, **columns: Any) -> pa.Table:
    cells = [{"bytes": png(i), "path": "x.png"} for i in range(n)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table({"image": pa.array(cells, kind), "label": pa.array([i % 3 for i in range(n)]), **columns})
