"""Real attacks through the command line: nothing is executed, nothing outside is read, no name forges."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from quick_audits import PAPER as QUICK
from zipped_pickles import write_zipped

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs links and limits of memory"),
]


class Call:
    """Unpickles to ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def getattr_gadget(marker: Path) -> bytes:
    """``getattr(os, "mkdir")(marker)``, the function found by getattr, so that no name betrays it."""
    return b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'mkdir'\ntR(S'%s'\ntR." % str(marker).encode()


def dotted_gadget(marker: Path) -> bytes:
    """``torch.serialization.os.mkdir``: reached through a module that is allowed."""
    return pickle.dumps({}, 4)[:2] + b"\x8c\x13torch.serialization\x8c\x08os.mkdir\x93\x8c%c%s\x85R." % (
        len(str(marker)),
        str(marker).encode(),
    )


def build_gadget(marker: Path) -> bytes:
    """An allowed OrderedDict whose state names a ``__reduce__`` of its own."""
    return b"ccollections\nOrderedDict\n)R(dS'__reduce__'\ncos\nmkdir\nsb(S'%s'\ntR." % str(marker).encode()


def eval_of(marker: Path) -> Call:
    return Call(builtins.eval, f"__import__('os').mkdir({str(marker)!r})")


PROGRAMS: dict[str, Callable[[Path], bytes]] = {
    "reduce": lambda marker: pickle.dumps(Call(os.mkdir, str(marker)), 2),
    "reduce in a state_dict": lambda marker: pickle.dumps({"state_dict": {"fc.weight": Call(os.mkdir, str(marker))}}),
    "eval": lambda marker: pickle.dumps({"fc.weight": eval_of(marker)}, 4),
    "eval in optimizer state": lambda marker: pickle.dumps({"optimizer": eval_of(marker), "state_dict": {}}, 2),
    "getattr": getattr_gadget,
    "dotted name": dotted_gadget,
    "build": build_gadget,
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("form", ["m.pt", "m.pth", "m.ckpt", "zipped.pt", "zipped.bin", "folder"])
def test_programs_in_checkpoints_do_not_run(form: str, name: str, salve, small_data: Path, tmp_path: Path) -> None:
    marker, out = tmp_path / "attacked", tmp_path / "out"
    content = PROGRAMS[name](marker)
    path = tmp_path / form
    if form == "folder":
        path.mkdir()
        (path / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 3}))
        (path / "pytorch_model.bin").write_bytes(content)
    elif form.startswith("zipped"):
        write_zipped(path, content)
    else:
        path.write_bytes(content)
    salve(path, small_data, "--out", out).assert_refused(form)
    assert not marker.exists()
    assert not out.exists()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_are_real(name: str, tmp_path: Path) -> None:
    """Each would have left its mark if it had been unpickled without care."""
    if name in ("dotted name", "build"):
        pytest.skip("aims at careless allow-lists; plain pickle raises before or after the call")
    pickle.loads(PROGRAMS[name](tmp_path / "attacked"))
    assert (tmp_path / "attacked").is_dir()


@pytest.mark.parametrize("command", [("report",), ("gate", "--fail-under", "1")])
def test_a_pickle_given_as_audit_json(command: tuple[str, ...], salve, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_bytes(PROGRAMS["reduce"](tmp_path / "attacked"))
    salve(command[0], path, *command[1:]).assert_refused("audit.json")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("name", ["acts", "labels", "weight", "bias", "class_names"])
def test_pickles_in_arrays_are_not_opened(name: str, salve, arrays: dict, tmp_path: Path) -> None:
    arrays[name] = np.array([Call(os.mkdir, str(tmp_path / "attacked"))] * 3, dtype=object)
    np.savez(tmp_path / "x.npz", **arrays)
    salve(tmp_path / "x.npz", "--out", tmp_path / "out", *QUICK).assert_refused("x.npz", name, "Python objects")
    assert not (tmp_path / "attacked").exists()
    assert not (tmp_path / "out").exists()


# Paths.


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """An image beside the data that nothing may open."""
    path = tmp_path / "outside" / "secret.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 8)).save(path)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["../outside/secret.png", "ABSOLUTE", "a/../../outside/secret.png", "a/link.png"])
def test_manifests_that_lead_out(
    name: str, ending: str, salve, small_model: Path, own_data: Path, secret: Path, opened: list[str]
) -> None:
    import pandas as pd

    (own_data / "a/link.png").symlink_to(secret)
    paths = [f"{folder}/{i:02d}.png" for folder in "abc" for i in range(6)]
    rows = pd.DataFrame({"path": [str(secret) if name == "ABSOLUTE" else name, *paths]})
    rows["label"] = ["a", *(path[0] for path in paths)]
    file = own_data / f"list.{ending}"
    {
        "csv": lambda: rows.to_csv(file, index=False),
        "tsv": lambda: rows.to_csv(file, index=False, sep="\t"),
        "jsonl": lambda: rows.to_json(file, orient="records", lines=True),
        "parquet": lambda: rows.to_parquet(file, index=False),
    }[ending]()
    opened.clear()
    salve("inspect", small_model, file).assert_refused(f"list.{ending}", "out of its folder" if name[0] in "a." else "")
    assert str(secret) not in opened


def test_links_out_of_a_folder_are_not_followed(
    salve, small_model: Path, own_data: Path, secret: Path, opened: list[str], tmp_path: Path
) -> None:
    (own_data / "a/link.png").symlink_to(secret)
    (own_data / "d").symlink_to(secret.parent)
    opened.clear()
    done = salve(small_model, own_data, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    assert "not followed" in done.err
    assert str(secret) not in opened
    assert any(path.startswith(str(own_data.resolve())) for path in opened)  # the record does record
    assert "secret" not in (tmp_path / "out/audit.json").read_text()


@pytest.mark.parametrize("name", ["../outside/secret.png", "ABSOLUTE"])
def test_shards_of_weights_that_lead_out(name: str, salve, secret: Path, opened: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 3}))
    shard = str(secret) if name == "ABSOLUTE" else name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"fc.weight": shard}}))
    opened.clear()
    salve("inspect", folder).assert_refused("model.safetensors.index.json", "secret.png")
    assert str(secret) not in opened


# Names.

NAMES = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[2J",
    "two\nlines\r\n::error::forged",
    "::error file=a.py::forged",
    "  ::set-output name=x::forged",
    "##[error]forged",
    "=cmd('/c calc')",
    "x" * 10_000,
    "\u202egnp.exe\u2066",
    "שלום",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
]


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays with one class for each of the hostile names."""
    rng = np.random.default_rng(0)
    n, labels = len(NAMES), np.arange(len(NAMES) * 12) % len(NAMES)
    acts = np.abs(rng.normal(size=(len(labels), n))).astype(np.float32)
    acts[np.arange(len(labels)), labels] += 4
    path = tmp_path_factory.mktemp("named") / "x.npz"
    weight, names = np.eye(n, dtype=np.float32), np.array(NAMES)
    np.savez(path, acts=acts, labels=labels, weight=weight, bias=np.zeros(n, np.float32), class_names=names)
    return path


def assert_nothing_forged(text: str) -> None:
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\r" not in text
    for line in text.splitlines():
        assert not line.lstrip().startswith("::"), line  # a command to the continuous integration
        assert "##[" not in line, line
        assert not line.startswith("lines"), line  # what follows a line break in a name


def test_hostile_class_names(salve, named: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = salve(named, "--out", out, "--format", "html,json", *QUICK[2:], "--fail-under", "1.5")
    assert done.code in (0, 1) or "no class could be judged" in done.err, done.err
    assert_nothing_forged(done.out)
    assert_nothing_forged(done.err)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert "{{ 7 * 7 }}" in page or "{{ 7 * 7 }}".replace(" ", "&#32;") in page  # shown, not evaluated
    assert {file.suffix for file in out.rglob("*") if file.is_file()} <= {".html", ".json", ".parquet", ".safetensors"}
    again = salve("gate", out, "--fail-under", "1.5")
    assert_nothing_forged(again.out + again.err)


def test_hostile_names_in_messages(salve, small_model: Path, own_data: Path) -> None:
    rows = [{"path": f"{folder}/{i:02d}.png", "label": name} for name, folder in zip(NAMES[:3], "abc", strict=True)
            for i in range(6)]  # fmt: skip
    file = own_data / "list.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = salve("inspect", small_model, file)
    assert_nothing_forged(done.out + done.err)
    file.write_text(json.dumps({"path": "\x1b[2J\n::error::x.png", "label": NAMES[7]}) + "\n")
    done = salve("inspect", small_model, file)
    done.assert_refused("list.jsonl")
    assert_nothing_forged(done.err)
    assert len(done.err) < 2_000


# Files that change.


def test_a_model_that_changes_while_it_is_read(
    salve, small_model: Path, small_checkpoint: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from salve_audit.inputs.model import weights

    path = tmp_path / "m.pt"
    shutil.copy(small_model, path)
    original = weights.load_torch_file

    def replace_first(file: Path, kind: Any) -> Any:
        state = {name: value + 1 for name, value in small_checkpoint["state_dict"].items()}
        torch.save({**small_checkpoint, "state_dict": state}, path)
        return original(file, kind)

    monkeypatch.setattr(weights, "load_torch_file", replace_first)
    salve("inspect", path).assert_refused("m.pt", "changed while")


def test_arrays_that_change_while_they_are_read(
    salve, arrays: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from salve_audit.inputs.arrays import array_file

    path, original = tmp_path / "x.npz", array_file._read_npz
    np.savez(path, **arrays)

    def replace_first(file: Path) -> Any:
        np.savez(path, **{**arrays, "bias": arrays["bias"] + 1})
        return original(file)

    monkeypatch.setattr(array_file, "_read_npz", replace_first)
    salve(path, "--out", tmp_path / "out", *QUICK).assert_refused("x.npz", "changed while")
    assert not (tmp_path / "out").exists()
