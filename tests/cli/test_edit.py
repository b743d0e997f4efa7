"""``salve-audit edit`` from a checkpoint and its audit to a file that plain torch and timm load."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file

import salve_audit.edit.run as edit_run
import salve_audit.edit.write as edit_write
from salve_audit.cli.app import run

KWARGS = {"channels": (8, 8, 16, 32), "stem_width": 8}
CACHE = "cache"
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def audited(colour_model: Path, colour_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the audit of the colours in out/ and its activations in cache/."""
    place = tmp_path_factory.mktemp("edited")
    options = ["--out", place / "out", "--cache", place / CACHE, "--format", "json", "--sae", "linear-l1"]
    options += ["--interventions", "salve", "--keep-activations", "--quiet", "--depth", "off", "--no-images"]
    assert run([str(one) for one in (colour_model, colour_data, *options)]) == 0
    return place


@pytest.fixture
def audit_of(audited: Path, tmp_path: Path) -> Callable[[Path], Path]:
    """The colours' audit as if it had been made of another file with these weights."""

    def make(model: Path) -> Path:
        folder = tmp_path / f"audit-{model.name}"
        shutil.copytree(audited / "out", folder)
        (folder / "activations.safetensors").unlink()
        files = [model] if model.is_file() else [model / "model.safetensors"]
        text = json.loads((folder / "audit.json").read_text())
        text["provenance"]["model_sha256"] = hashlib.sha256(files[0].read_bytes()).hexdigest()
        (folder / "audit.json").write_text(json.dumps(text))
        return folder

    return make


@pytest.fixture
def edit(salve: Callable, audited: Path, colour_data: Path) -> Callable[..., Any]:
    """``edit(model, audit, ...)`` with the audit's pictures and cache."""

    def call(model: Path, audit: Path, *options: object, data: Path | None = colour_data) -> Any:
        pictures = ["--data", data] if data is not None else []
        return salve("edit", model, audit, *options, *pictures, "--cache", audited / CACHE)

    return call


@pytest.fixture(scope="module")
def original(colour_model: Path) -> dict[str, Any]:
    return torch.load(colour_model, weights_only=True)


def suppressed(audit: Path, weight: torch.Tensor, alpha_hat: float, feature: int | None = None) -> torch.Tensor:
    """SALVE's own formula on the saved dictionary; by default with the dominant feature of red."""
    if feature is None:
        feature = dominant(audit, "red")
    coupling = np.abs(load_numpy(audit / "sae.safetensors")["dictionary"][feature].astype(np.float64))
    scale = np.maximum(0, 1 - alpha_hat * coupling / coupling.max())
    return torch.from_numpy(weight.double().numpy() * scale)


def dominant(audit: Path, name: str) -> int:
    records = json.loads((audit / "audit.json").read_text())["classes"]
    return next(one["dominant_feature"] for one in records if one["name"] == name)


def pictures(data: Path) -> tuple[torch.Tensor, np.ndarray]:
    """The audit's pictures as the network takes them, and their labels, without this tool."""
    arrays, labels = [], []
    for label, folder in enumerate(sorted((data / "val").iterdir())):
        for file in sorted(folder.iterdir()):
            arrays.append(np.asarray(Image.open(file), dtype=np.float32) / 255)
            labels.append(label)
    return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) - 0.5) / 0.5, np.array(labels)


def plain_logits(state: State, images: torch.Tensor) -> torch.Tensor:
    """Of plain timm."""
    model = timm.create_model("resnet10t", num_classes=3, **KWARGS)
    model.load_state_dict(state, strict=True)
    with torch.inference_mode():
        return model.float().eval()(images)


def assert_only_the_head_changed(before: State, after: State, head: tuple[str, ...] = ("fc.weight",)) -> None:
    assert list(after) == list(before)
    for name, value in before.items():
        assert after[name].dtype == value.dtype
        assert after[name].shape == value.shape
        same = torch.equal(after[name].view(torch.uint8), value.view(torch.uint8)) if value.ndim else True
        assert same == (name not in head), name


def assert_refused(done: Any, out: Path, *words: str) -> None:
    assert done.code == 2, done.out
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    for word in words:
        assert word in done.err
    assert not os.path.lexists(out)
    leftovers = [one for one in out.parent.iterdir() if one.name.startswith(".salve")] if out.parent.exists() else []
    assert leftovers == []


def test_a_timm_checkpoint_keeps_everything_but_the_head(
    edit: Callable, audited: Path, original: dict, colour_data: Path, tmp_path: Path, audit_of: Callable
) -> None:
    optimiser = {"state": {0: {"exp_avg": torch.randn(4, 5), "step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}
    state = original["state_dict"]
    content = {
        **original,
        "optimizer": optimiser,
        "epoch": 7,
        "metric": np.float64(0.5),
        "options": argparse.Namespace(lr=1e-3, name="x"),
        "state_dict_ema": {name: value.clone() for name, value in state.items()},
    }
    model, out = tmp_path / "model.pt", tmp_path / "edited.pt"
    torch.save(content, model)
    audit = audit_of(model)
    done = edit(model, audit, "--class", "red", "--alpha-hat", 0.8, "-o", out)
    assert done.code == 0, done.err
    assert f"salve: suppress feature {dominant(audit, 'red')} (dominant of red), alpha_hat 0.8\n" in done.out
    assert "verified: the file was loaded and run on 96 pictures" in done.out
    assert "the weights at 'state_dict_ema' in the file are left as they were" in done.err

    with torch.serialization.safe_globals([argparse.Namespace]):
        after = torch.load(out, weights_only=False)
    assert list(after) == [*content, "salve_audit_edit"]
    assert_only_the_head_changed(state, after["state_dict"])
    assert_only_the_head_changed(state, after["state_dict_ema"], head=())
    assert after["state_dict"]._metadata == original["state_dict"]._metadata
    assert torch.equal(after["optimizer"]["state"][0]["exp_avg"], optimiser["state"][0]["exp_avg"])
    assert after["optimizer"]["param_groups"] == optimiser["param_groups"]
    assert (after["epoch"], after["metric"], after["options"]) == (7, 0.5, content["options"])

    expected = suppressed(audit, state["fc.weight"], 0.8)
    assert torch.equal(after["state_dict"]["fc.weight"], expected.float())
    images, _ = pictures(colour_data)
    edited = {**state, "fc.weight": expected.float()}
    torch.testing.assert_close(plain_logits(after["state_dict"], images), plain_logits(edited, images))

    record = after["salve_audit_edit"]
    step = {"method": "salve", "class": "red", "feature": dominant(audit, "red"), "enhance": False, "strength": 0.8}
    assert record["edits"] == [{**step, "to_accuracy": None}]
    assert record["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (record["tensors"], record["verified"]) == (["state_dict.fc.weight"], True)
    assert record["weights_sha256"]["before"] != record["weights_sha256"]["after"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["audit-model.pt", "edited.pt", "model.pt"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bare_state_dict_stays_one(
    zipped: bool, edit: Callable, original: dict, colour_data: Path, tmp_path: Path, audit_of: Callable
) -> None:
    model, out = tmp_path / "model.pth", tmp_path / "edited.pth"
    torch.save(original["state_dict"], model, _use_new_zipfile_serialization=zipped)
    said = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "crop_pct": 1}
    (tmp_path / "model.json").write_text(json.dumps(said))
    arch = tmp_path / "net.py"
    arch.write_text(f"import timm\ndef net():\n    return timm.create_model('resnet10t', num_classes=3, **{KWARGS})\n")
    audit = audit_of(model)
    done = edit(model, audit, "--class", "red", "--to-accuracy", 0.05, "-o", out, "--arch", f"{arch}:net")
    assert done.code == 0, done.err
    assert (out.read_bytes()[:2] == b"PK") == zipped
    after = torch.load(out, weights_only=True)
    assert_only_the_head_changed(original["state_dict"], after)
    images, labels = pictures(colour_data)
    correct = plain_logits(after, images).argmax(1).numpy() == labels
    assert correct[labels == 2].sum() == 1  # of 32; two would be 6 %
    record = json.loads((tmp_path / "edited.pth.edit.json").read_text())
    assert record["edits"][0]["to_accuracy"] == 0.05
    assert record["tensors"] == ["fc.weight"]
    assert json.loads((tmp_path / "edited.json").read_text()) == said


def test_safetensors_change_in_the_heads_bytes_alone(
    edit: Callable, original: dict, tmp_path: Path, audit_of: Callable
) -> None:
    folder, out = tmp_path / "model", tmp_path / "edited"
    folder.mkdir()
    names = {f"model.{name}": value for name, value in original["state_dict"].items()}
    save_file(names, folder / "model.safetensors", {"format": "pt", "note": "ä"})
    said = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "crop_pct": 1}
    config = {"architecture": "resnet10t", "num_classes": 3, "model_args": {**KWARGS}, "pretrained_cfg": said}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("mine")
    torch.save(names, folder / "pytorch_model.bin")
    audit = audit_of(folder)
    done = edit(folder, audit, "--class", "red", "--alpha-hat", 1.0, "--method", "salve", "-o", out)
    assert done.code == 0, done.err
    assert "left out of the folder's copy (weights without the edit, subfolders): pytorch_model.bin" in done.err
    assert sorted(one.name for one in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    after = load_file(out / "model.safetensors")
    with safe_open(out / "model.safetensors", framework="pt") as opened:
        metadata = opened.metadata()
    assert (metadata["format"], metadata["note"]) == ("pt", "ä")
    assert json.loads(metadata["salve_audit_edit"])["tensors"] == ["model.fc.weight"]
    assert_only_the_head_changed(dict(sorted(names.items())), dict(sorted(after.items())), ("model.fc.weight",))
    expected = suppressed(audit, original["state_dict"]["fc.weight"], 1.0)
    assert torch.equal(after["model.fc.weight"], expected.float())
    # as a file of its own it lies beside a config.json that belongs to it
    refused = edit(folder / "model.safetensors", audit, "--class", "red", "--alpha-hat", 1, "-o", tmp_path / "e")
    assert_refused(refused, tmp_path / "e", "is a part of the folder", "hint: edit the folder: salve-audit edit")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_precision(
    dtype: torch.dtype, edit: Callable, original: dict, colour_data: Path, tmp_path: Path, audit_of: Callable
) -> None:
    model, out = tmp_path / "model.pt", tmp_path / "edited.pt"
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in original["state_dict"].items()
    }
    torch.save({**original, "state_dict": state}, model)
    audit = audit_of(model)
    done = edit(model, audit, "--class", "red", "--alpha-hat", 1.1, "-o", out)
    assert done.code == 0, done.err
    after = torch.load(out, weights_only=True)["state_dict"]
    assert_only_the_head_changed(state, after)
    expected = suppressed(audit, state["fc.weight"], 1.1)
    assert torch.equal(after["fc.weight"], expected.to(dtype))
    images, _ = pictures(colour_data)
    exact = plain_logits({**state, "fc.weight": expected.float()}, images)
    rounded = plain_logits(after, images)
    assert 0 < (rounded - exact).abs().max() < torch.finfo(dtype).eps * 8


def test_a_hugging_face_folder_of_another_library(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    """Names as transformers has them, two shards; read back into plain timm by the names' own table."""
    file = Path(__file__).resolve().parents[1] / "models" / "hub_names.py"
    spec = importlib.util.spec_from_file_location("hub_names_for_edits", file)
    hub_names = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hub_names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
        torch.nn.init.normal_(network.head.weight)
    named = hub_names.as_vit(network.state_dict())
    folder, out = tmp_path / "hub", tmp_path / "edited"
    hub_names.write_vit_folder(named, folder)
    quick = ["--format", "json", "--interventions", "salve", "--sae", "linear-l1", "--n-latents", 8, "--limit", 12]
    quick += ["--depth", "off", "--no-images"]
    cache = ["--cache", tmp_path / CACHE]
    done = salve(folder, colour_data, "--out", tmp_path / "audit", *quick, *cache, "--quiet")
    assert done.code == 0, done.err
    steps = ["--feature", 1, "--alpha-hat", 0.5, "-o", out, "--data", colour_data, *cache]
    done = salve("edit", folder, tmp_path / "audit", *steps)
    assert done.code == 0, done.err
    assert sorted(one.name for one in out.iterdir()) == sorted(one.name for one in folder.iterdir())
    after = load_file(out / "a.safetensors") | load_file(out / "b.safetensors")
    assert_only_the_head_changed(dict(sorted(named.items())), dict(sorted(after.items())), ("classifier.weight",))
    assert (out / "b.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()  # the head is in the first
    expected = suppressed(tmp_path / "audit", named["classifier.weight"], 0.5, feature=1)
    assert torch.equal(after["classifier.weight"], expected.float())


def test_a_folder_saved_by_transformers_goes_back_to_transformers(
    salve: Callable, colour_data: Path, tmp_path: Path
) -> None:
    """The library itself writes the folder and reads the edited one, in processes that know nothing of this tool."""
    folder, out = tmp_path / "hub", tmp_path / "edited"
    write = """
import sys, torch
from transformers import ViTConfig, ViTForImageClassification
torch.manual_seed(0)
sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
config = ViTConfig(image_size=32, num_labels=3, id2label={0: "blue", 1: "green", 2: "red"}, **sizes)
network = ViTForImageClassification(config)
torch.nn.init.normal_(network.classifier.weight)
network.half().save_pretrained(sys.argv[1])
"""
    run_apart(write, folder)
    quick = ["--format", "json", "--interventions", "salve", "--sae", "linear-l1", "--n-latents", 8, "--limit", 12]
    quick += ["--depth", "off", "--no-images"]
    cache = ["--cache", tmp_path / CACHE]
    done = salve(folder, colour_data, "--out", tmp_path / "audit", *quick, *cache, "--quiet")
    assert done.code == 0, done.err
    steps = ["--feature", 1, "--alpha-hat", 0.5, "-o", out, "--data", colour_data, *cache]
    done = salve("edit", folder, tmp_path / "audit", *steps)
    assert done.code == 0, done.err
    before, after = load_file(folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert_only_the_head_changed(before, after, ("classifier.weight",))
    assert after["classifier.weight"].dtype == torch.float16
    read = """
import sys, torch
from transformers import AutoModelForImageClassification
before, after = (AutoModelForImageClassification.from_pretrained(one, dtype="float32") for one in sys.argv[1:3])
pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    before.classifier.load_state_dict(after.classifier.state_dict())
    a, b = before(pictures).logits, after(pictures).logits
print(after.config.id2label[2], bool(torch.equal(a, b)), round(float(b.std()), 3))
"""
    name, same, spread = run_apart(read, folder, out).split()
    assert (name, same) == ("red", "True")
    assert float(spread) > 0


def run_apart(code: str, *arguments: Path) -> str:
    """What a script prints in a process of its own."""
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_enhancing_after_suppressing_is_no_way_back(
    edit: Callable, audited: Path, colour_model: Path, original: dict, tmp_path: Path
) -> None:
    out = tmp_path / "both.pt"
    steps = ["--edit", "class=red,alpha-hat=1.2", "--edit", "class=red,enhance,alpha-hat=1.2"]
    done = edit(colour_model, audited / "out", *steps, "-o", out)
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].startswith("salve: enhance feature")
    weight = original["state_dict"]["fc.weight"].double().numpy()
    coupling = np.abs(load_numpy(audited / "out" / "sae.safetensors")["dictionary"][dominant(audited / "out", "red")])
    relative = coupling.astype(np.float64) / coupling.astype(np.float64).max()
    expected = weight * np.maximum(0, 1 - 1.2 * relative) * (1 + 1.2 * relative)
    found = torch.load(out, weights_only=True)
    np.testing.assert_array_equal(found["state_dict"]["fc.weight"].numpy(), expected.astype(np.float32))
    assert not np.allclose(expected, weight)
    assert [one["enhance"] for one in found["salve_audit_edit"]["edits"]] == [False, True]


def test_a_later_edit_that_moves_a_matched_class_is_told(
    edit: Callable, audited: Path, colour_model: Path, tmp_path: Path
) -> None:
    steps = ["--edit", "class=red,to-accuracy=0.3", "--edit", "class=red,enhance,alpha-hat=3"]
    done = edit(colour_model, audited / "out", *steps, "-o", tmp_path / "both.pt")
    assert done.code == 0, done.err
    assert "red was brought to 30 %, and later edits take it to " in done.err
    done = edit(colour_model, audited / "out", *steps[:2], "-o", tmp_path / "one.pt")
    assert "later edits" not in done.err


def test_options_given_again_are_more_edits_of_the_same_kind(
    edit: Callable, audited: Path, colour_model: Path, tmp_path: Path
) -> None:
    ways = {
        "classes": [["--class", "red", "--class", "blue", "--alpha-hat", 0.5], "class=red", "class=blue"],
        "features": [["--feature", 1, "--feature", 0, "--alpha-hat", 0.5], "feature=1", "feature=0"],
    }
    for name, (again, *parts) in ways.items():
        specs = [word for part in parts for word in ("--edit", f"{part},alpha-hat=0.5")]
        for options, out in ((again, tmp_path / f"{name}.pt"), (specs, tmp_path / f"{name}-specs.pt")):
            done = edit(colour_model, audited / "out", *options, "-o", out, "--no-verify")
            assert done.code == 0, done.err
        own, same = (torch.load(tmp_path / f"{name}{end}.pt", weights_only=True) for end in ("", "-specs"))
        assert len(own["salve_audit_edit"]["edits"]) == 2
        assert own["salve_audit_edit"] == same["salve_audit_edit"]


@pytest.mark.parametrize(
    ("method", "tensors"),
    [("ablation", ["fc.weight"]), ("steering", ["fc.bias"]), ("rome", ["fc.weight"]), ("rome-cov", ["fc.weight"]),
     ("leace", ["fc.weight", "fc.bias"]), ("row-scaling", ["fc.weight", "fc.bias"])],
)  # fmt: skip
def test_other_methods(
    method: str, tensors: list[str], edit: Callable, audited: Path, colour_model: Path, original: dict, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    done = edit(colour_model, audited / "out", "--class", "red", "--method", method, "--to-accuracy", 0.5, "-o", out)
    assert done.code == 0, done.err
    found = torch.load(out, weights_only=True)
    assert_only_the_head_changed(original["state_dict"], found["state_dict"], tuple(tensors))
    row = next(line for line in done.out.splitlines() if line.startswith("red "))
    assert float(row.split()[-2]) <= 50


def test_pictures_are_found_by_their_name_where_the_command_runs(
    edit: Callable,
    audited: Path,
    colour_model: Path,
    colour_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "edited.pt"
    monkeypatch.chdir(colour_data.parent)
    done = edit(colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", out, data=None)
    assert done.code == 0, done.err
    assert torch.load(out, weights_only=True)["salve_audit_edit"]["verified"] is True
    others = tmp_path / "elsewhere" / colour_data.name
    shutil.copytree(colour_data, others)
    next((others / "val" / "red").iterdir()).unlink()
    monkeypatch.chdir(others.parent)
    done = edit(colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", out, "--force", data=None)
    assert done.code == 2
    assert f"{colour_data.name}: has 215 pictures, the audit" in done.err


def test_what_needs_activations_and_pictures(
    edit: Callable, salve: Callable, audited: Path, colour_model: Path, audit_of: Callable, tmp_path: Path
) -> None:
    out, kept = tmp_path / "edited.pt", audited / "out"
    done = edit(colour_model, kept, "--class", "red", "--alpha-hat", 1, "-o", out, data=None)
    assert_refused(done, out, "error: --data: the audit's pictures (", "hint: name them with --data DIR; --no-verify")
    bare = audit_of(colour_model)
    without = ("--no-verify", "-o", out)
    done = edit(colour_model, bare, "--class", "red", "--to-accuracy", 0.1, *without, data=None)
    assert_refused(done, out, "needs the activations of the audit", "has no activations.safetensors", "--data DIR")
    done = edit(colour_model, kept, "--class", "red", "--to-accuracy", 0.1, *without, data=None)
    assert done.code == 0, done.err  # from the audit's own activations
    assert "warning: NOT VERIFIED" in done.err
    assert re.search(r"^red +32 +100.0 % +\d\.\d % +-$", done.out, re.MULTILINE)
    assert torch.load(out, weights_only=True)["salve_audit_edit"]["verified"] is False
    done = edit(colour_model, bare, "--class", "red", "--alpha-hat", 0.1, *without, "--force", data=None)
    assert done.code == 0, done.err
    assert "before" not in done.out


def test_other_pictures_than_the_audits(
    edit: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out, data = tmp_path / "edited.pt", tmp_path / "data"
    shutil.copytree(colour_data, data)
    one = data / "val" / "red" / "000.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(one)
    call = (colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    assert_refused(edit(*call, data=data), out, f"error: {data}: is other data than the audit's: sha256")
    one.unlink()
    assert_refused(edit(*call, data=data), out, f"error: {data}: has 215 pictures, the audit (")


def test_another_model_is_named_by_both_hashes(
    edit: Callable, audited: Path, colour_model: Path, original: dict, tmp_path: Path
) -> None:
    model, out = tmp_path / "other.pt", tmp_path / "edited.pt"
    torch.save({**original, "epoch": 1}, model)
    hashes = [hashlib.sha256(one.read_bytes()).hexdigest() for one in (colour_model, model)]
    done = edit(model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    assert_refused(done, out, "is an audit of another model", *hashes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--class", "rad", "--alpha-hat", 1], ["error: class: the audit has no class 'rad'", "hint: nearest: red"]),
        (["--class", "xyz", "--alpha-hat", 1], ["hint: classes: blue, green, red"]),
        (["--feature", "9999", "--alpha-hat", 1], ["feature: 9999: the audit's features are 0 to", "hint: nearest: "]),
        (["--class", "red", "--alpha-hat", 1, "--method", "abblation"], ["hint: nearest: ablation"]),
        (["--class", "red", "--alpha-hat", 1, "--method", "null-random"], ["'null-random' is not one of salve, "]),
        (["--class", "red", "--strength", 1, "--method", "leace", "--feature", "1"], ["leace edits a class"]),
        (["--feature", "1", "--strength", 1, "--method", "steering"], ["steering needs the class"]),
        (["--class", "red", "--alpha-hat", 1, "--method", "rome"], ["rome takes --strength in its own unit"]),
        (["--class", "red"], ["give a strength (--alpha-hat X, --strength X) or --to-accuracy P"]),
        (["--class", "red", "--alpha-hat", 1, "--to-accuracy", 0.5], ["only one of them"]),
        (["--class", "red", "--alpha-hat", -1], ["strength: -1 is not a positive number", "--enhance goes up"]),
        (["--class", "red", "--to-accuracy", 0.5, "--enhance"], ["an enhancement needs a strength"]),
        (["--feature", "1", "--to-accuracy", 0.5], ["of which class?"]),
        (["--class", "red", "--alpha-hat", 1e-30], ["changes nothing"]),
        (["--edit", "class=red,alfa-hat=1"], ["'alfa-hat=1' is none of", "nearest: alpha-hat"]),
        (["--edit", "class=red,alpha-hat=x"], ["alpha-hat is 'x', expected a number"]),
        (["--edit", "class=red,alpha-hat=1", "--enhance"], ["--enhance: goes into an --edit of its own"]),
        (["--class", "red", "--class", "rad", "--alpha-hat", 1], ["no class 'rad'"]),
        (["--class", "red", "--class", "blue", "--feature", "1", "--alpha-hat", 1], ["do not say whose feature"]),
        ([], ["error: edit: nothing to do"]),
    ],
)
def test_what_makes_no_edit(
    options: list, words: list[str], edit: Callable, audited: Path, colour_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    assert_refused(edit(colour_model, audited / "out", *options, "-o", out), out, *words)


def test_the_input_is_never_overwritten(edit: Callable, audited: Path, colour_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    shutil.copyfile(colour_model, model)
    before = model.read_bytes()
    (tmp_path / "soft.pt").symlink_to(model)
    os.link(model, tmp_path / "hard.pt")
    for name in ("model.pt", "soft.pt", "hard.pt", "../" + tmp_path.name + "/model.pt"):
        done = edit(model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", tmp_path / name, "--force")
        assert done.code == 2
        assert "is the input itself, which is never overwritten" in done.err
    assert model.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["hard.pt", "model.pt", "soft.pt"]


def test_another_file_is_replaced_with_force_only(
    edit: Callable, audited: Path, colour_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    out.write_text("mine")
    call = (colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    done = edit(*call)
    assert (done.code, out.read_text()) == (2, "mine")
    assert f"error: {out}: is there already" in done.err
    assert edit(*call, "--force").code == 0
    assert "salve_audit_edit" in torch.load(out, weights_only=True)
    done = edit(colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", tmp_path / "e.safetensors")
    assert_refused(done, tmp_path / "e.safetensors", "are of different formats; none is converted")
    (tmp_path / "folder").mkdir()
    for folder in (tmp_path / "folder", "."):
        done = edit(colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", folder)
        assert (done.code, f"error: {folder}: is a folder" in done.err) == (2, True), done.err


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_killed_half_way_nothing_is_left(
    how: str, edit: Callable, audited: Path, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(content: Any, stream: Any, **_: Any) -> None:
        stream.write(b"half of it")
        stream.flush()
        assert len(list(tmp_path.rglob("*.pt"))) == 1  # staged, not in its place
        if how == "interrupt":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(edit_write.torch, "save", stop)
    before = signal.getsignal(signal.SIGTERM)
    done = edit(colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", tmp_path / "edited.pt")
    assert done.code == 130
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_model_that_does_something_else_is_not_kept(
    edit: Callable, audited: Path, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written with weights that are 1 % off."""
    right = edit_run.unfold

    def wrong(*arguments: Any) -> dict[str, np.ndarray]:
        return {name: 1.01 * value for name, value in right(*arguments).items()}

    monkeypatch.setattr(edit_run, "unfold", wrong)
    out = tmp_path / "edited.pt"
    done = edit(colour_model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", out)
    assert_refused(done, out, "the model in the written file does not do what was predicted: for 96 of 96 pictures")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(edit_run, "unfold", right)  # the model that was read, run in place of the one written
    load = edit_run.load_classifier
    monkeypatch.setattr(edit_run, "load_classifier", lambda path, *rest: load(colour_model, *rest))
    done = edit(colour_model, audited / "out", "--class", "red", "--to-accuracy", 0.05, "-o", out)
    assert_refused(done, out, "(red: 3.1 % predicted, 100.0 % measured); no file was left")


def test_an_edit_of_an_edit_remembers_the_first(
    edit: Callable, audited: Path, colour_model: Path, tmp_path: Path, audit_of: Callable
) -> None:
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    assert edit(colour_model, audited / "out", "--class", "red", "--alpha-hat", 0.3, "-o", first).code == 0
    done = edit(first, audited / "out", "--class", "blue", "--alpha-hat", 0.3, "-o", second)
    assert_refused(done, second, "is an audit of another model")
    done = edit(first, audit_of(first), "--class", "blue", "--alpha-hat", 0.3, "-o", second)
    assert done.code == 0, done.err
    record = torch.load(second, weights_only=True)["salve_audit_edit"]
    assert (record["edits"][0]["class"], record["earlier"]["edits"][0]["class"]) == ("blue", "red")


def test_programs_graphs_and_arrays_are_refused(edit: Callable, audited: Path, tmp_path: Path) -> None:
    out = tmp_path / "edited.pt"
    script = tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript announces its own end
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)), script)
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"\x08\x07")
    whole = tmp_path / "whole.pt"
    torch.save(torch.nn.Linear(3, 2), whole)
    arrays = audited / "out" / "activations.safetensors"
    for model, words in {
        script: "is a TorchScript archive, which is not edited",
        graph: "is an ONNX graph, which is not edited",
        whole: "whole pickled network",
        arrays: "holds arrays and no model",
        tmp_path / "none.pt": "no such file",
    }.items():
        place = out if model is not arrays else out.with_suffix(".safetensors")
        done = edit(model, audited / "out", "--class", "red", "--alpha-hat", 1, "-o", place)
        assert_refused(done, place, words)
