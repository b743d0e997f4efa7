"""Every bad input: exit code 2, one line that names the cause, no traceback and no output left behind."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from salve_audit.cli import app

QUICK = (
    *("--format", "json", "--sae", "linear-l1", "--sae-seeds", 1),
    *("--interventions", "salve", "--evidence", "off"),
)

pytestmark = pytest.mark.slow


@pytest.fixture
def world(colour_model: Path, colour_data: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A copy of model and data that a test may spoil, and the output folder."""
    model, data = tmp_path / "in" / "model.pt", tmp_path / "in" / "data"
    shutil.copytree(colour_data, data)
    shutil.copy(colour_model, model)
    return model, data, tmp_path / "results" / "out"


def change_checkpoint(path: Path, change: Callable[[dict], None]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def rename_key(content: dict) -> None:
    content["state_dict"]["layer9.weight"] = content["state_dict"].pop("layer1.0.conv1.weight")


def spoil(content: dict) -> None:
    content["state_dict"]["layer1.0.conv1.weight"][0] = float("nan")


def spoil_infinite(content: dict) -> None:
    content["state_dict"]["fc.bias"][0] = float("inf")


def reshape(content: dict) -> None:
    content["state_dict"]["layer1.0.conv1.weight"] = torch.zeros(3, 3)


CHECKPOINTS = [
    (lambda m: m.unlink(), ["model.pt", "no such file"]),
    (lambda m: m.write_bytes(b"not a checkpoint at all"), ["model.pt"]),
    (lambda m: m.write_bytes(b""), ["model.pt"]),
    (lambda m: m.write_bytes(m.read_bytes()[:5000]), ["model.pt"]),
    (lambda m: torch.save([1, 2, 3], m), ["model.pt"]),
    (lambda m: change_checkpoint(m, rename_key), ["model.pt", "layer1.0.conv1.weight", "layer9.weight"]),
    (lambda m: change_checkpoint(m, reshape), ["model.pt", "layer1.0.conv1.weight", "3"]),
    (lambda m: change_checkpoint(m, spoil), ["model.pt", "layer1.0.conv1.weight"]),
    (lambda m: change_checkpoint(m, spoil_infinite), ["model.pt", "fc.bias"]),
    (lambda m: change_checkpoint(m, lambda c: c.update(arch="resnet10x")), ["model.pt", "resnet10x"]),
]

FOLDERS = [
    (shutil.rmtree, ["data"]),
    (lambda d: (shutil.rmtree(d), d.mkdir()), ["data"]),
    (lambda d: [p.unlink() for p in (d / "val" / "red").iterdir()], ["red"]),
    (lambda d: [shutil.rmtree(d / s / c) for s in ("train", "val") for c in ("red", "blue")], ["class"]),
    (lambda d: shutil.rmtree(d / "val" / "red"), ["red"]),
    (lambda d: [shutil.rmtree(d / s / "red") for s in ("train", "val")], ["2 class", "3 outputs"]),
    (lambda d: [p.write_bytes(p.read_bytes()[:60]) for p in sorted((d / "val").rglob("*.png"))[:9]], ["val"]),
]


def assert_refused(done: object, out: Path, *words: str) -> None:
    lines = done.err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert done.code == 2, done.err
    assert len(errors) == 1, done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    for word in words:
        assert word in errors[0] or any(word in line for line in lines if line.startswith("hint: ")), done.err
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
    assert done.out == ""


@pytest.mark.parametrize(("change", "words"), CHECKPOINTS)
def test_checkpoints(salve: Callable, world: tuple, change: Callable, words: list[str]) -> None:
    model, data, out = world
    change(model)
    assert_refused(salve(model, data, "--out", out, "--no-cache"), out, *words)


@pytest.mark.parametrize(("change", "words"), FOLDERS)
def test_folders(salve: Callable, world: tuple, change: Callable, words: list[str]) -> None:
    model, data, out = world
    change(data)
    assert_refused(salve(model, data, "--out", out, "--no-cache"), out, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arch", "nothing.py:net"], ["nothing.py"]),
        (["--head", "layer1"], ["layer1"]),
        (["--device", "tpu"], ["--device"]),
        (["--limit", "0"], ["limit", "0"]),
        (["--format", "docx"], ["docx"]),
        (["--fail-under", "-1"], ["--fail-under"]),
        (["--fail-under", "nan"], ["--fail-under"]),
        (["--sae", "magic"], ["--sae"]),
        (["--frobnicate"], ["--frobnicate"]),
        (["--config", "missing.toml"], ["missing.toml"]),
    ],
)
def test_options(salve: Callable, world: tuple, arguments: list[str], words: list[str]) -> None:
    model, data, out = world
    assert_refused(salve(model, data, "--out", out, "--no-cache", *arguments), out, *words)


def test_a_few_truncated_images_are_counted_named_and_skipped(salve: Callable, world: tuple) -> None:
    model, data, out = world
    broken = sorted((data / "val" / "red").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:100])
    done = salve(model, data, "--out", out, "--no-cache", *QUICK)
    assert done.code == 0, done.err
    text = (out / "audit.json").read_text()
    assert '"n_skipped": 1' in text
    assert "val/red/000.png" in text


@pytest.mark.skipif(os.name != "posix", reason="needs a folder that cannot be written even by root")
def test_a_folder_that_cannot_be_written(salve: Callable, world: tuple) -> None:
    model, data, out = world
    done = salve(model, data, "--out", "/proc/salve", "--no-cache")
    assert_refused(done, out, "/proc/salve")


def test_an_output_that_is_a_file(salve: Callable, world: tuple) -> None:
    model, data, out = world
    done = salve(model, data, "--out", model, "--no-cache")
    assert_refused(done, out, "model.pt", "is a file")


def test_a_disk_that_fills_up(salve: Callable, world: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last file meets a full disk: nothing of the audit stays."""
    model, data, out = world

    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "sae.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    done = salve(model, data, "--out", out, "--no-cache", *QUICK)
    assert_refused(done, out, "No space left on device")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_is_130_and_leaves_nothing(world: tuple) -> None:
    """A real interrupt of a real process, while it works."""
    model, data, out = world
    command = [sys.executable, "-m", "salve_audit", str(model), str(data), "--out", str(out), "--no-cache"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    while line and not line.startswith("activations:"):
        line = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not out.parent.exists() or list(out.parent.iterdir()) == []


def test_a_defect_of_the_tool_is_exit_2_too(salve: Callable, world: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, out = world
    monkeypatch.setattr("salve_audit.audit.subject.load_classifier", lambda *_, **__: 1 / 0)
    done = salve(model, data, "--out", out)
    assert done.code == app.FAILED
    assert "error: internal error: ZeroDivisionError: division by zero" in done.err
    assert "Traceback" not in done.err
    verbose = salve(model, data, "--out", out, "-v")
    assert "Traceback" in verbose.err


def test_names_in_messages_cannot_forge_lines(salve: Callable, tmp_path: Path) -> None:
    done = salve("evil\n\x1b[31merror: forged.pt", tmp_path)
    assert done.code == 2
    assert "\x1b" not in done.err
    assert "evil\\n\\x1b[31merror: forged.pt" in done.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 1", "unknown option 'sede'"),
        ("seed = 'one'", "expected int, got str in 'seed'"),
        ("format = [1]", "expected a list of strings in 'format'"),
        ("seed =", "not TOML"),
    ],
)
def test_config_files(salve: Callable, world: tuple, tmp_path: Path, text: str, message: str) -> None:
    model, data, out = world
    file = tmp_path / "in" / "audit.toml"
    file.write_text(text)
    assert_refused(salve(model, data, "--out", out, "--config", file), out, "audit.toml", message)
