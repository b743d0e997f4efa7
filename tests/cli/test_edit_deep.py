"""Deep edits from the command line: the audit's comparison, and checkpoints with other numbers before the head."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
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

pytestmark = pytest.mark.slow

KWARGS = {"channels": (8, 8, 16, 32), "stem_width": 8}
CHANGED = {
    "layer4.0.conv2.weight",
    "layer4.0.bn2.bias",
    "layer4.0.downsample.1.weight",
    "layer4.0.downsample.2.bias",
}
State = dict[str, torch.Tensor]
METHOD = ("--method", "deep-all-writers")


@pytest.fixture
def audited(audit_colours: Callable) -> Path:
    options = ["--format", "json,html", "--sae", "linear-l1", "--interventions", "salve,steering"]
    return audit_colours("deep_audit", *options, "--evidence", "off", "--no-images", "--quiet")


@pytest.fixture
def edit(salve: Callable, audited: Path, colour_data: Path) -> Callable[..., Any]:
    def call(model: Path, *options: object, audit: Path | None = None) -> Any:
        images = ["--data", colour_data, "--cache", audited / "cache"]
        return salve("edit", model, audit or audited / "out", *options, *images)

    return call


@pytest.fixture
def audit_of(audited: Path, tmp_path: Path) -> Callable[[Path], Path]:
    """The colours' audit as if it had been made of another file with these weights."""

    def make(model: Path) -> Path:
        folder = tmp_path / "audit"
        shutil.copytree(audited / "out", folder)
        text = json.loads((folder / "audit.json").read_text())
        text["provenance"]["model_sha256"] = hashlib.sha256(model.read_bytes()).hexdigest()
        (folder / "audit.json").write_text(json.dumps(text))
        return folder

    return make


def read(audited: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((audited / "out" / "audit.json").read_text())
    return content


def dominant(audited: Path, name: str) -> int:
    return next(
        class_record["dominant_feature"] for class_record in read(audited)["classes"] if class_record["name"] == name
    )


def prepared(data: Path) -> tuple[torch.Tensor, np.ndarray]:
    arrays, labels = [], []
    for label, folder in enumerate(sorted((data / "val").iterdir())):
        for file in sorted(folder.iterdir()):
            arrays.append(np.asarray(Image.open(file), dtype=np.float32) / 255)
            labels.append(label)
    return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) - 0.5) / 0.5, np.array(labels)


def plain(state: State) -> torch.nn.Module:
    model = timm.create_model("resnet10t", num_classes=3, **KWARGS)
    model.load_state_dict(state, strict=True)
    return model.float().eval()


def projected_logits(state: State, audited: Path, feature: int, strength: float, images: torch.Tensor) -> torch.Tensor:
    """Plain timm with the sum before the last ReLU projected; the last stage has one block, so that is all."""
    sae = load_numpy(audited / "out" / "sae.safetensors")
    decoder, encoder = (torch.from_numpy(sae[name][feature]) for name in ("dictionary", "encoder_weight"))
    model = plain(state)

    def project(_module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        read = torch.einsum("bchw,c->bhw", given[0], encoder) / (encoder @ decoder)
        return (given[0] - strength * read[:, None] * decoder[:, None, None],)

    model.get_submodule("layer4.0.act2").register_forward_pre_hook(project)
    with torch.inference_mode():
        return model(images)


def logits_of(state: State, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return plain(state)(images)


def assert_only_these_changed(before: State, after: State, changed: set[str]) -> None:
    assert list(after) == list(before)
    for name, value in before.items():
        assert (after[name].dtype, after[name].shape) == (value.dtype, value.shape)
        same = torch.equal(after[name].view(torch.uint8), value.view(torch.uint8)) if value.ndim else True
        assert same == (name not in changed), name


def test_a_deep_edit_does_what_the_projection_does_and_touches_nothing_else(
    edit: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    done = edit(colour_model, "--class", "red", *METHOD, "--strength", 0.9, "-o", out)
    assert done.code == 0, done.err
    feature = dominant(audited, "red")
    assert f"deep-all-writers: suppress feature {feature} (dominant of red), strength 0.9\n" in done.out
    assert "verified: the file was loaded and run on 96 images" in done.out
    before, after = (torch.load(path, weights_only=True) for path in (colour_model, out))
    assert list(after) == [*before, "salve_audit_edit"]
    assert_only_these_changed(before["state_dict"], after["state_dict"], CHANGED)
    record = after["salve_audit_edit"]
    assert set(record["tensors"]) == {f"state_dict.{name}" for name in CHANGED}
    assert record["edits"][0] == {
        "method": "deep-all-writers",
        "class": "red",
        "feature": feature,
        "enhance": False,
        "strength": 0.9,
        "to_accuracy": None,
    }
    images, _ = prepared(colour_data)
    expected = projected_logits(before["state_dict"], audited, feature, 0.9, images)
    assert float((expected - logits_of(before["state_dict"], images)).abs().max()) > 0.1
    torch.testing.assert_close(logits_of(after["state_dict"], images), expected, rtol=1e-4, atol=1e-4)


def test_without_images_the_same_is_written_unverified(
    edit: Callable, salve: Callable, audited: Path, colour_model: Path, tmp_path: Path
) -> None:
    named = ("--class", "red", *METHOD, "--strength", 0.9)
    verified, unverified = tmp_path / "verified.pt", tmp_path / "unverified.pt"
    assert edit(colour_model, *named, "-o", verified).code == 0
    done = salve("edit", colour_model, audited / "out", *named, "-o", unverified, "--no-verify")
    assert done.code == 0, done.err
    assert "NOT VERIFIED" in done.err
    first, second = _state(verified), _state(unverified)
    assert all(torch.equal(first[name], second[name]) for name in first)
    wanted = ("--class", "red", *METHOD, "--to-accuracy", 0.5, "-o", tmp_path / "none.pt", "--no-verify")
    done = salve("edit", colour_model, audited / "out", *wanted)
    assert done.code == 2
    assert "is reached by runs of the network, which need images" in done.err


def test_enhancing_goes_the_other_way(
    edit: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out, feature = tmp_path / "edited.pt", dominant(audited, "blue")
    done = edit(colour_model, "--feature", feature, *METHOD, "--enhance", "--strength", 0.5, "-o", out)
    assert done.code == 0, done.err
    images, _ = prepared(colour_data)
    state = torch.load(colour_model, weights_only=True)["state_dict"]
    expected = projected_logits(state, audited, feature, -0.5, images)
    edited_logits = logits_of(torch.load(out, weights_only=True)["state_dict"], images)
    torch.testing.assert_close(edited_logits, expected, rtol=1e-4, atol=1e-4)


def test_to_accuracy_is_reached_by_runs_of_the_network(
    edit: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "edited.pt"
    done = edit(colour_model, "--class", "green", *METHOD, "--to-accuracy", 0.5, "-o", out)
    assert done.code == 0, done.err
    images, labels = prepared(colour_data)
    after = torch.load(out, weights_only=True)
    right = logits_of(after["state_dict"], images).argmax(1).numpy() == labels
    assert right[labels == 1].mean() <= 0.5
    strength = after["salve_audit_edit"]["edits"][0]["strength"]
    weaker = projected_logits(
        torch.load(colour_model, weights_only=True)["state_dict"],
        audited,
        dominant(audited, "green"),
        0.9 * strength,
        images,
    )
    assert (weaker.argmax(1).numpy() == labels)[labels == 1].mean() > 0.5, "hardly stronger than needed"


def test_two_deep_edits_add_up_in_half_precision_safetensors(
    edit: Callable, audit_of: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in _state(colour_model).items()
    }
    model, out = tmp_path / "half.safetensors", tmp_path / "edited.safetensors"
    save_file(state, model, {"format": "pt"})
    (tmp_path / "half.json").write_text(json.dumps(_settings()))
    specs = [f"class={name},method=deep-all-writers,strength=0.6" for name in ("red", "blue")]
    options = ["--edit", specs[0], "--edit", specs[1], "--arch", _write_network(tmp_path)]
    done = edit(model, *options, "-o", out, audit=audit_of(model))
    assert done.code == 0, done.err
    after = load_file(out)
    assert_only_these_changed(dict(sorted(state.items())), dict(sorted(after.items())), CHANGED)
    with safe_open(out, "pt") as opened:
        record = json.loads(opened.metadata()["salve_audit_edit"])
    assert [edit_record["class"] for edit_record in record["edits"]] == ["red", "blue"]
    images, _ = prepared(colour_data)
    second = dominant(audited, "blue")
    with torch.no_grad():
        single = edit(
            model, "--edit", specs[0], *options[4:], "-o", tmp_path / "one.safetensors", audit=tmp_path / "audit"
        )
    assert single.code == 0, single.err
    expected = projected_logits(load_file(tmp_path / "one.safetensors"), audited, second, 0.6, images)
    torch.testing.assert_close(logits_of(after, images), expected, rtol=0.02, atol=0.02)


def _state(model: Path) -> State:
    state: State = torch.load(model, weights_only=True)["state_dict"]
    return state


def _settings() -> dict[str, Any]:
    half = [0.5, 0.5, 0.5]
    return {"input_size": [3, 32, 32], "mean": half, "std": half, "interpolation": "bilinear", "crop_pct": 1.0}


def _write_network(folder: Path) -> str:
    """The architecture as the user's own code, as safetensors say nothing of its arguments."""
    file = folder / "net.py"
    made = f"timm.create_model('resnet10t', num_classes=3, **{KWARGS!r})"
    file.write_text(f"import timm\n\ndef net():\n    return {made}\n")
    return f"{file}:net"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--class", "red", *METHOD, "--alpha-hat", "0.8"), ("alpha-hat: is SALVE's strength",)),
        (("--class", "red", "--method", "deep-al-writers", "--strength", "1"), ("nearest: deep-all-writers",)),
        (("--class", "redd", *METHOD, "--strength", "1"), ("the audit has no class 'redd'", "nearest: red")),
        (
            ("--edit", "class=red,method=deep-all-writers,strength=1", "--edit", "class=blue,alpha-hat=0.5"),
            ("goes with others of its own kind only",),
        ),
        (("--class", "red", *METHOD, "--enhance", "--to-accuracy", "0.5"), ("an enhancement needs a strength",)),
    ],
)
def test_what_cannot_be_done_is_said(
    edit: Callable, colour_model: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    out = tmp_path / "edited.pt"
    done = edit(colour_model, *options, "-o", out)
    assert done.code == 2
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
    assert not out.exists()


def test_a_network_without_a_known_stream_is_refused(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_050", num_classes=3)
    model, place = tmp_path / "mobile.pt", tmp_path / "out"
    args = {"num_classes": 3, "img_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    torch.save({"arch": "mobilenetv3_small_050", "state_dict": network.state_dict(), "args": args}, model)
    options = ["--sae", "linear-l1", "--n-latents", 8, "--sae-seeds", 1, "--interventions", "salve,steering"]
    options += ["--evidence", "off", "--no-images"]
    done = salve(model, colour_data, *options, "--no-cache", "--limit", 8, "--format", "json", "--out", place, "-q")
    assert done.code == 0, done.err
    record = json.loads((place / "audit.json").read_text())["deep_edits"]
    assert record["reason"] == "no deep edit is known for mobilenetv3_small_050"
    assert record["results"] == []
    out = tmp_path / "edited.pt"
    named = ("--class", "red", *METHOD, "--strength", 1, "-o", out, "--data", colour_data, "--no-cache")
    done = salve("edit", model, place, *named)
    assert done.code == 2
    assert "no deep edit is known for mobilenetv3_small_050" in done.err
    assert "hint: known are networks with timm's or torchvision's names" in done.err
    assert not out.exists()


def test_a_folder_of_another_library_in_shards(salve: Callable, colour_data: Path, tmp_path: Path) -> None:
    """Names as transformers has them: the last block's two writers change, in the shards that they are in."""
    file = Path(__file__).resolve().parents[1] / "models" / "hub_names.py"
    spec = importlib.util.spec_from_file_location("hub_names_for_deep_edits", file)
    assert spec is not None
    assert spec.loader is not None
    hub_names = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hub_names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
        for parameter in (network.head.weight, network.blocks[-1].attn.proj.bias):  # the other writer's bias is zero
            torch.nn.init.normal_(parameter)
    named = hub_names.as_vit(network.state_dict())
    folder, out = tmp_path / "hub", tmp_path / "edited"
    hub_names.write_vit_folder(named, folder)
    quick = ["--format", "json", "--interventions", "salve", "--sae", "linear-l1", "--n-latents", 8, "--limit", 12]
    quick += ["--evidence", "off", "--no-images"]
    cache = ["--cache", tmp_path / "cache"]
    done = salve(folder, colour_data, "--out", tmp_path / "audit", *quick, *cache, "--quiet")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "audit" / "audit.json").read_text())["deep_edits"] is None, "steering is not compared"
    steps = ["--feature", 1, "--method", "deep-last-block", "--strength", 1, "-o", out, "--data", colour_data, *cache]
    done = salve("edit", folder, tmp_path / "audit", *steps)
    assert done.code == 0, done.err
    after = load_file(out / "a.safetensors") | load_file(out / "b.safetensors")
    block = "vit.encoder.layer.11."
    parts = {"attention.output.dense.weight", "attention.output.dense.bias", "output.dense.weight"}
    changed = {f"{block}{part}" for part in parts}
    assert_only_these_changed(dict(sorted(named.items())), dict(sorted(after.items())), changed)


def test_a_file_that_does_something_else_is_not_left(
    edit: Callable, colour_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = edit_run.change_tensor

    def wrong(source: Any, name: str, values: np.ndarray) -> Any:
        return honest(source, name, values * 1.01)

    monkeypatch.setattr(edit_run, "change_tensor", wrong)
    out = tmp_path / "edited.pt"
    done = edit(colour_model, "--class", "red", *METHOD, "--strength", 0.9, "-o", out)
    assert done.code == 2
    assert "the model in the written file does not do what was predicted" in done.err
    assert not out.exists()


def test_the_audits_comparison_is_what_written_files_do(
    edit: Callable, audited: Path, colour_model: Path, colour_data: Path, tmp_path: Path
) -> None:
    """All audit images are in the subset here, so its numbers must be those of the file with the same edit."""
    deep_edits = read(audited)["deep_edits"]
    assert (deep_edits["family"], deep_edits["reason"], deep_edits["n_samples"]) == ("ResNet", "", 96)
    (scope,) = deep_edits["scopes"]
    assert scope["method"] == "deep-all-writers"
    assert set(scope["layers"]) == {"layer4.0.conv2", "layer4.0.downsample.1"}
    assert (scope["left"], scope["runs_from"]) == ("", "layer4.0")
    assert {result["method"] for result in deep_edits["results"]} == {
        "salve",
        "steering",
        "row-scaling",
        "deep-all-writers",
    }
    images, labels = prepared(colour_data)
    names = sorted(deep_edits["class_names"])
    deep = [
        result for result in deep_edits["results"] if result["method"] == "deep-all-writers" and result["strength"] > 0
    ]
    assert deep
    for i, result in enumerate(deep[:2]):
        out = tmp_path / f"{i}.pt"
        done = edit(colour_model, "--class", result["class"], *METHOD, "--strength", result["strength"], "-o", out)
        assert done.code == 0, done.err
        right = logits_of(_state(out), images).argmax(1).numpy() == labels
        shares = {name: right[labels == index].mean() for index, name in enumerate(names)}
        assert shares.pop(result["class"]) == pytest.approx(result["reached_accuracy"])
        assert np.mean(list(shares.values())) == pytest.approx(result["others_accuracy"])
        assert result["low"] <= result["others_accuracy"] <= result["high"]
        assert result["reached"] == (result["reached_accuracy"] <= result["target_accuracy"])


def test_the_report_tells_of_them(audited: Path) -> None:
    page = (audited / "out" / "report.html").read_text()
    assert "deeper edits" in page.lower()
    assert "all writers" in page


def test_arrays_have_no_network_to_edit(salve: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    acts = (np.eye(3)[labels] @ rng.normal(size=(3, 8)) + rng.normal(0, 0.2, size=(120, 8))).astype(np.float32)
    weight = np.stack([acts[labels == i].mean(0) for i in range(3)]) - acts.mean(0)
    np.savez(tmp_path / "a.npz", acts=acts, labels=labels, weight=weight, bias=np.zeros(3, np.float32))
    place = tmp_path / "out"
    options = ("--sae", "linear-l1", "--n-latents", 8, "--sae-seeds", 1, "--interventions", "salve,steering")
    done = salve(tmp_path / "a.npz", *options, "--format", "json", "--out", place, "-q")
    assert done.code == 0, done.err
    assert json.loads((place / "audit.json").read_text())["deep_edits"]["reason"] == "arrays hold no network"
    done = salve(tmp_path / "a.npz", *options, "--deep-edits", "off", "--format", "json", "--out", place, "-q")
    assert done.code == 0, done.err
    assert json.loads((place / "audit.json").read_text())["deep_edits"] is None
