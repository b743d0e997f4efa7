"""``salve-audit explain`` from a checkpoint, its audit and an image to text, JSON, HTML and PNG."""

from __future__ import annotations

import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.numpy import load_file

from salve_audit.evidence import stage
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.spatial import layers, map_layers

pytestmark = pytest.mark.slow

KWARGS = {"channels": (8, 8, 16, 32), "stem_width": 8}
QUICK = ["--format", "json", "--sae", "linear-l1", "--sae-seeds", "1", "--interventions", "salve", "--no-images"]
QUICK += ["--evidence", "off", "--deep-edits", "off", "--no-cache", "--quiet"]


@pytest.fixture
def audited(head_audit: Path) -> Path:
    """The folder with the audit of the colours."""
    return head_audit / "out"


@pytest.fixture
def image(colour_data: Path) -> Path:
    return colour_data / "val" / "red" / "003.png"


@pytest.fixture
def explain(salve: Callable, audited: Path, colour_model: Path, image: Path) -> Callable[..., Any]:
    """``explain("--suppress", "red")``: the red image, by default."""

    def call(*options: object, image: Path = image, model: Path = colour_model, audit: Path = audited) -> Any:
        return salve("explain", model, image, audit, *options)

    return call


def entry(done: Any) -> dict[str, Any]:
    assert done.code == 0, done.err
    (explanation,) = json.loads(done.out)
    return explanation


def plain_pass(model: Path, image: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations (d,), weight and bias of the head, by plain timm."""
    state = torch.load(model, weights_only=True)["state_dict"]
    network = timm.create_model("resnet10t", num_classes=3, **KWARGS)
    network.load_state_dict(state)
    pixels = torch.from_numpy(np.asarray(Image.open(image), dtype=np.float32) / 255)
    with torch.inference_mode():
        features = network.eval().forward_features((pixels.permute(2, 0, 1)[None] - 0.5) / 0.5)
        acts = network.forward_head(features, pre_logits=True)[0]
    return acts.double().numpy(), state["fc.weight"].double().numpy(), state["fc.bias"].double().numpy()


def assert_refused(done: Any, *words: str) -> None:
    assert done.code == 2, done.out
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    for word in words:
        assert word in done.err, done.err
    assert done.out == ""


def test_the_numbers_are_those_of_plain_timm(explain: Callable, colour_model: Path, image: Path, audited: Path) -> None:
    explanation = entry(explain("--format", "json", "--features", "5"))
    acts, weight, bias = plain_pass(colour_model, image)
    logits = weight @ acts + bias
    chances = np.exp(logits - logits.max())
    order = np.argsort(-logits)
    names = np.array(["blue", "green", "red"])[order]
    assert [record["name"] for record in explanation["classes"]] == names.tolist()
    np.testing.assert_allclose([record["logit"] for record in explanation["classes"]], logits[order], atol=1e-4)
    np.testing.assert_allclose(
        [record["probability"] for record in explanation["classes"]], (chances / chances.sum())[order], atol=1e-5
    )
    sae = load_file(audited / "sae.safetensors")
    codes = sae["encoder_weight"].astype(float) @ acts + sae["encoder_bias"]
    parts = codes * (sae["dictionary"].astype(float) @ weight[order[0]])
    listed = explanation["logit"]["features"]
    expected = np.argsort(-np.abs(parts))[:5]
    assert [feature["feature"] for feature in listed] == expected.tolist()
    np.testing.assert_allclose([feature["part"] for feature in listed], parts[expected], atol=1e-4)


def test_the_parts_add_up_to_the_logit(explain: Callable, colour_data: Path) -> None:
    for name in ("blue", "green", "red"):
        explanation = entry(explain("--format", "json", image=colour_data / "val" / name / "000.png"))
        logit = explanation["logit"]
        parts = [feature["part"] for feature in logit["features"]]
        others = [
            logit["other_features"]["part"],
            *(logit[key] for key in ("decoder_bias", "autoencoder_error", "head_bias")),
        ]
        assert sum(parts) + sum(others) == pytest.approx(logit["value"], abs=1e-9)
        assert logit["value"] == pytest.approx(explanation["classes"][0]["logit"], abs=1e-9)
        for feature in logit["features"]:
            assert feature["share"] == pytest.approx(feature["part"] / logit["value"], abs=1e-9)


def test_flips_are_where_plain_arithmetic_has_them(
    explain: Callable, colour_model: Path, image: Path, audited: Path
) -> None:
    explanation = entry(explain("--format", "json"))
    acts, weight, bias = plain_pass(colour_model, image)
    dictionary = load_file(audited / "sae.safetensors")["dictionary"].astype(float)
    names, own = ["blue", "green", "red"], explanation["classes"][0]["index"]
    n_flips = 0
    for feature in explanation["logit"]["features"]:
        coupling = np.abs(dictionary[feature["feature"]])

        def predict(alpha_hat: float, coupling: np.ndarray = coupling) -> int:
            scale = np.maximum(0, 1 - alpha_hat * coupling / coupling.max())
            return int((weight @ (acts * scale) + bias).argmax())

        at, to = feature["flip"]["alpha_hat"], feature["flip"]["to"]
        if at is None:
            assert all(predict(strength) == own for strength in np.linspace(0, 50, 200))
            continue
        n_flips += 1
        assert names[predict(at * 1.001)] == to
        assert all(predict(share * at) == own for share in np.linspace(0, 0.999, 50))
    assert n_flips > 0


def test_an_edit_is_that_of_the_edit_command(
    explain: Callable, salve: Callable, colour_model: Path, image: Path, audited: Path, tmp_path: Path
) -> None:
    explanation = entry(explain("--format", "json", "--suppress", "red", "--alpha-hat", "1.5"))
    edited = tmp_path / "edited.pt"
    done = salve("edit", colour_model, audited, "--class", "red", "--alpha-hat", 1.5, "-o", edited, "--no-verify")
    assert done.code == 0, done.err
    acts, weight, bias = plain_pass(edited, image)
    logits = weight @ acts + bias
    for class_record in explanation["edit"]["classes"]:
        assert class_record["logit"] == pytest.approx(logits[class_record["index"]], abs=1e-4)
    assert explanation["edit"]["steps"] == [line for line in done.out.splitlines() if line.startswith("salve: ")]
    assert explanation["edit"]["flipped"] == (int(logits.argmax()) != 2)
    stronger = entry(explain("--format", "json", "--enhance", "red", "--alpha-hat", "1"))["edit"]
    assert stronger["classes"][0]["logit"] > explanation["classes"][0]["logit"]


def test_features_are_named_by_number_class_or_nothing(explain: Callable, audited: Path) -> None:
    records = json.loads((audited / "audit.json").read_text())["classes"]
    red = next(class_record["dominant_feature"] for class_record in records if class_record["name"] == "red")
    ways = (
        ["--suppress", str(red)],
        ["--suppress", f"feature={red}"],
        ["--suppress", "class=red"],
        ["--suppress", "red"],
    )
    logits = [entry(explain(*way, "--format", "json"))["edit"]["classes"][0]["logit"] for way in ways]
    assert len(set(logits)) == 1
    explanation = entry(explain("--format", "json", "--suppress"))  # alone: what speaks most for the prediction
    most = max(explanation["logit"]["features"], key=lambda feature: feature["part"])["feature"]
    assert explanation["edit"]["steps"] == [f"salve: suppress feature {most}, alpha_hat 1"]
    both = entry(explain("--format", "json", "--enhance", "blue", "--suppress", "red"))["edit"]["steps"]
    assert [step.split()[1] for step in both] == ["suppress", "enhance"]


def test_text_says_it_all(explain: Callable) -> None:
    done = explain("--suppress", "red", "--alpha-hat", "30")
    assert done.code == 0, done.err
    assert "003.png: red (" in done.out
    assert re.search(r"logit of red, \d+\.\d\d = the sum of", done.out)
    for row in ("decoder's bias", "not reproduced by the autoencoder", "bias of the final layer"):
        assert re.search(rf"^{row} +[+−]?\d+\.\d\d", done.out, re.MULTILINE), row
    assert "after the edit: salve: suppress feature" in done.out
    assert "The prediction becomes" in done.out
    assert "heat maps: -o FILE.html or -o FILE.png" in done.out
    assert "\\x" not in done.out


def test_maps_before_and_after_an_edit(explain: Callable) -> None:
    explanation = entry(explain("--format", "json", "--suppress", "red", "--alpha-hat", "30", "--features", "4"))
    shown, n = explanation["maps"]["shown"], len(explanation["logit"]["features"])
    assert n >= 2
    assert [heat_map["method"] for heat_map in shown] == ["Grad-FAM"] * n + ["Grad-CAM"] * 4
    assert [heat_map["of"] for heat_map in shown[:n]] == [
        f"feature {feature['feature']}" for feature in explanation["logit"]["features"]
    ]
    now = explanation["edit"]["predicted"]
    assert [heat_map["of"] for heat_map in shown[n:]] == ["red", now, "red after the edit", f"{now} after the edit"]
    assert min(explanation["maps"]["grid"]) >= 2
    for share in (share for heat_map in shown for share in heat_map["in_top_fifth"]):
        assert share is None or 0.2 <= share <= 1


def test_html_and_png_and_json_files(explain: Callable, tmp_path: Path) -> None:
    page, figure, data = (tmp_path / name for name in ("red.html", "red.png", "red.json"))
    for out in (page, figure, data):
        out.write_text("what was there before")
        done = explain("--suppress", "red", "-o", out)
        assert (done.code, done.out) == (0, f"written: {out}\n"), done.err
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) > 10
    assert all(re.search(r' alt="[^"]{10,}"', tag) for tag in images)
    with Image.open(io.BytesIO(figure.read_bytes())) as image:
        assert image.format == "PNG"
        assert image.width > 1000
    assert json.loads(data.read_text())[0]["predicted"] == "red"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["red.html", "red.json", "red.png"]


def test_several_images_in_one_file(salve: Callable, audited: Path, colour_model: Path, colour_data: Path) -> None:
    images = [colour_data / "val" / name / "001.png" for name in ("red", "blue")]
    done = salve("explain", colour_model, *images, audited, "--format", "json", "--features", "2")
    assert done.code == 0, done.err
    assert [explanation["image"] for explanation in json.loads(done.out)] == [str(image) for image in images]


def test_the_network_is_traced_once_for_maps_and_regions_of_all_images(
    salve: Callable, audited: Path, colour_model: Path, colour_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[torch.Size] = []

    def count(classifier: Classifier, images: torch.Tensor) -> layers.TracedLayers:
        traced.append(images.shape)
        return trace_layers(classifier, images)

    trace_layers = layers.trace_layers
    for module in (layers, map_layers, stage):
        monkeypatch.setattr(module, "trace_layers", count)
    images = [colour_data / "val" / name / "001.png" for name in ("red", "blue")]
    done = salve("explain", colour_model, *images, audited, "--format", "json")
    assert done.code == 0, done.err
    entries = json.loads(done.out)
    assert [entry["why_no_maps"] or entry["why_no_regions"] for entry in entries] == ["", ""]
    assert len(traced) == 1


def test_an_audit_without_image_reliance_has_fewer_factors(explain: Callable) -> None:
    factors = entry(explain("--format", "json"))["factors"]
    assert {"border", "wide border", "hue"} <= {factor["name"] for factor in factors["removed"]}
    assert not factors["complete"]
    assert all(factor["of_class"] is None for factor in factors["removed"])
    assert "The audit kept no statistics of the others" in explain().out


def test_a_grey_image_is_taken_as_the_audit_takes_it(explain: Callable, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(np.repeat(pixels[..., None], 3, 2)).save(tmp_path / "colour.png")
    both = [entry(explain("--format", "json", image=tmp_path / name)) for name in ("grey.png", "colour.png")]
    assert both[0]["classes"] == both[1]["classes"]


def test_images_that_are_none(explain: Callable, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    assert_refused(explain(image=text), f"error: {text}: not an image in a known format")
    assert_refused(explain(image=tmp_path / "none.png"), "none.png: ")
    assert_refused(explain(image=tmp_path), f"error: {tmp_path}: ")
    Image.new("1", (8000, 8000)).save(tmp_path / "huge.png")
    assert_refused(explain(image=tmp_path / "huge.png"), "more than 50 million")
    Image.new("RGB", (3000, 2)).save(tmp_path / "line.png")
    assert_refused(explain(image=tmp_path / "line.png"), "a side is over 1000 times the other")
    cut = tmp_path / "cut.png"
    Image.new("RGB", (64, 64), "red").save(cut)
    cut.write_bytes(cut.read_bytes()[:80])
    assert_refused(explain(image=cut), f"error: {cut}: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--suppress", "rad"], ["error: --suppress: the audit has neither a class nor a feature 'rad'", "red"]),
        (["--enhance", "class=purple"], ["the audit has no class 'purple'", "classes: blue, green, red"]),
        (["--suppress", "9999"], ["feature: 9999: the audit's features are 0 to"]),
        (["--suppress", "-1"], ["-1"]),
        (["--suppress", "red", "--alpha-hat", "0"], ["--alpha-hat: 0 is not a positive number"]),
        (["--suppress", "red", "--alpha-hat", "nan"], ["--alpha-hat: nan is not a positive number"]),
        (["--features", "0"], ["--features: 0 is not in 1..100"]),
        (["--format", "png"], ["--format: png goes to a file", "hint: -o FILE.png"]),
        (["--saliency-layer", "layer9"], ["layer9", "hint: "]),
        (["--head", "layer1"], ["layer1"]),
    ],
)
def test_what_cannot_be_explained(options: list[str], words: list[str], explain: Callable) -> None:
    assert_refused(explain(*options), *words)


def test_places_that_cannot_be_written(explain: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(explain("-o", tmp_path), f"error: {tmp_path}: is a folder")
    assert_refused(explain("-o", tmp_path / "none" / "x.html"), "its folder does not exist")
    assert_refused(explain("-o", tmp_path / "x.gif"), "x.gif does not end in .txt, .json, .html, .htm, .png")
    out = tmp_path / "x.html"
    out.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert_refused(explain("-o", out), f"error: {out}: cannot be written (No space left on device)")
    monkeypatch.undo()
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_inputs_are_never_overwritten(explain: Callable, audited: Path, image: Path, tmp_path: Path) -> None:
    opened = tmp_path / "red.png"
    shutil.copyfile(image, opened)
    (tmp_path / "link.png").symlink_to(opened)
    before = (audited / "audit.json").read_bytes()
    for out in (opened, tmp_path / "link.png"):
        assert_refused(explain("-o", out, image=opened), "is one of the inputs, which are never overwritten")
    assert_refused(explain("-o", audited / "audit.json"), "is one of the inputs")
    assert opened.read_bytes() == image.read_bytes()
    assert (audited / "audit.json").read_bytes() == before


def test_audits_that_do_not_belong(explain: Callable, audited: Path, colour_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({**torch.load(colour_model, weights_only=True), "epoch": 1}, other)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (colour_model, other)]
    assert_refused(explain(model=other), "is an audit of another model", *hashes)
    bare = tmp_path / "bare"
    shutil.copytree(audited, bare)
    (bare / "sae.safetensors").unlink()
    assert_refused(explain(audit=bare), f"error: {bare / 'sae.safetensors'}: no such file")
    (bare / "sae.safetensors").write_bytes(b"x" * 100)
    assert_refused(explain(audit=bare / "audit.json"), "sae.safetensors: not a safetensors file")
    assert_refused(explain(audit=tmp_path / "none"), "none")
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, acts=np.zeros((4, 2), np.float32))
    assert_refused(explain(model=arrays), "error: MODEL: ", "holds arrays and no model")


def test_an_audit_of_arrays_has_no_model(explain: Callable, salve: Callable, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    acts = (np.eye(3)[labels] @ rng.standard_normal((3, 8)) + 0.3 * rng.standard_normal((120, 8))).astype(np.float32)
    weight = np.stack([acts[labels == label].mean(0) for label in range(3)])
    file = tmp_path / "arrays.npz"
    np.savez(file, acts=acts, labels=labels, weight=weight, bias=-0.5 * (weight**2).sum(1))
    done = salve(file, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    assert_refused(explain(audit=tmp_path / "out"), "is an audit of arrays, in which there was no model")


MLP = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(3072, 16)
        self.fc = torch.nn.Linear(16, 3)
    def forward(self, x):
        return self.fc(torch.relu(self.body(x.flatten(1))))
def net():
    return Net()
net.input_size, net.mean, net.std = (3, 32, 32), (0.5,) * 3, (0.5,) * 3
"""


def test_a_network_without_places_is_explained_without_maps(
    salve: Callable, explain: Callable, colour_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(MLP)
    generator = torch.Generator().manual_seed(0)
    shapes = {"body.weight": (16, 3072), "body.bias": (16,), "fc.weight": (3, 16), "fc.bias": (3,)}
    state = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    model, arch = tmp_path / "net.pt", f"{tmp_path / 'net.py'}:net"
    torch.save(state, model)
    done = salve(model, colour_data, "--arch", arch, "--out", tmp_path / "out", *QUICK)
    assert done.code == 0, done.err
    again = {"model": model, "audit": tmp_path / "out"}
    assert_refused(explain(**again), "which is code", "name it again")
    explanation = entry(explain("--arch", arch, "--format", "json", "--suppress", **again))
    assert explanation["maps"] is None
    assert "grid" in explanation["why_no_maps"]
    assert explanation["edit"]["steps"]
    out = tmp_path / "x.html"
    assert explain("--arch", arch, "-o", out, **again).code == 0
    assert f"There are no heat maps: {explanation['why_no_maps']}." in html.unescape(out.read_text())
    assert explain("--arch", arch, "-o", tmp_path / "x.png", **again).code == 0


def test_the_command_loads_no_torch_until_it_runs() -> None:
    code = (
        "import salve_audit.cli.explain_command, salve_audit.explain.output, salve_audit.explain.request\n"
        "from salve_audit.cli.app import run\n"
        "assert run(['explain', '--help']) == 0\n"
        "assert run(['explain', 'a', 'b', 'c', '--format', 'png']) == 2\n"
        "import sys; assert not {'torch', 'timm', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
