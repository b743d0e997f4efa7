"""``salve-audit edit`` keeps a checkpoint's format, names, types and everything but the head."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from head_edits import (
    KWARGS,
    assert_only_the_head_changed,
    assert_refused,
    dominant,
    plain_logits,
    prepared,
    suppressed,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow


def test_a_timm_checkpoint_keeps_everything_but_the_head(
    edit: Callable, head_audit: Path, original: dict, colour_data: Path, tmp_path: Path, audit_of: Callable
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
    assert "verified: the file was loaded and run on 96 images" in done.out
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
    images, _ = prepared(colour_data)
    edited = {**state, "fc.weight": expected.float()}
    torch.testing.assert_close(plain_logits(after["state_dict"], images), plain_logits(edited, images))

    record = after["salve_audit_edit"]
    step = {"method": "salve", "class": "red", "feature": dominant(audit, "red"), "enhance": False, "strength": 0.8}
    assert record["edits"] == [{**step, "to_accuracy": None}]
    assert record["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (record["tensors"], record["verified"]) == (["state_dict.fc.weight"], True)
    assert record["weights_sha256"]["before"] != record["weights_sha256"]["after"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit-model.pt", "edited.pt", "model.pt"]


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
    images, labels = prepared(colour_data)
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
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
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
    images, _ = prepared(colour_data)
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
    quick += ["--evidence", "off", "--no-images"]
    cache = ["--cache", tmp_path / "cache"]
    done = salve(folder, colour_data, "--out", tmp_path / "audit", *quick, *cache, "--quiet")
    assert done.code == 0, done.err
    steps = ["--feature", 1, "--alpha-hat", 0.5, "-o", out, "--data", colour_data, *cache]
    done = salve("edit", folder, tmp_path / "audit", *steps)
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in folder.iterdir())
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
    quick += ["--evidence", "off", "--no-images"]
    cache = ["--cache", tmp_path / "cache"]
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
images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    before.classifier.load_state_dict(after.classifier.state_dict())
    a, b = before(images).logits, after(images).logits
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
