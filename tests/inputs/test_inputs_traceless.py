"""Settings that no tensor shows: epsilons, torchvision's rescaling, families of transformers, orientation of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from image_files import load_image
from PIL import Image

from salve_audit.activations.images import first_images
from salve_audit.errors import CheckpointError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.labels.matching import match_classes
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.decisions import list_decisions
from salve_audit.inputs.model.formats import transformers_folder
from salve_audit.inputs.model.formats.processor import DEFAULTS, read_processor
from salve_audit.inputs.model.transform import build_transform
from salve_audit.results.transform import TransformSpec


@pytest.mark.parametrize("args", [{"bn_eps": 0.01}, {"bn_tf": True, "bn_eps": None}, {"batch_norm_epsilon": 0.01}])
def test_the_epsilon_of_batch_norms(args: dict[str, Any], save) -> None:
    eps = 1e-3 if "bn_tf" in args else 0.01
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_efficientnet", num_classes=3, bn_eps=eps).eval()
    plain = load_classifier(save({"arch": "test_efficientnet", "state_dict": model.state_dict()}))
    classifier = load_classifier(save({"arch": "test_efficientnet", "state_dict": model.state_dict(), "args": args}))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(classifier.model(images), model(images))
        assert not torch.equal(plain.model(images), model(images))
    assert classifier.build_key != plain.build_key  # else the cache would mix them up
    assert any(decision.what == "bn_eps" and f"{eps:g} in" in decision.taken for decision in classifier.decisions)


def googlenet() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False, num_classes=3).eval()


@pytest.mark.parametrize("said", [None, True, False])
def test_torchvisions_rescaling_of_images(said: bool | None, save) -> None:
    model = googlenet()
    path = save(model.state_dict())
    if said is not None:
        path.with_suffix(".json").write_text(json.dumps({"transform_input": said}))
    model.transform_input = said is not False
    classifier = load_classifier(path)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(classifier.model(images), model(images))
    decision = next(decision for decision in classifier.decisions if decision.what == "transform_input")
    assert decision.taken == str(said is not False)
    assert bool(decision.conflict) is (said is None)


def save_hub(folder: Path) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.RegNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], groups_width=8, num_labels=3
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.RegNetForImageClassification(config).eval()
    model.save_pretrained(folder)
    return model


def test_a_family_of_transformers_that_is_not_mapped(tmp_path: Path) -> None:
    model = save_hub(tmp_path / "m")
    classifier = load_classifier(tmp_path / "m")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(classifier.model(images), model(pixel_values=images).logits)
    assert classifier.architecture == "transformers:RegNetForImageClassification"
    assert classifier.n_outputs == 3


def transform_of(own: dict[str, Any]) -> TransformSpec:
    args = read_processor(own, "p.json").args
    return TransformSpec(**{**args, "mean": tuple(args["mean"]), "std": tuple(args["std"])}, source="")


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("kind", sorted({*DEFAULTS} - {"ImageGPT", "Siglip2", "TextNet"}))
def test_an_image_processor_with_and_without_its_classs_defaults(kind: str, is_whole: bool) -> None:
    """Against the library's own; TextNet's sides are rounded to 32, the other two have no fixed size or no pixels."""
    transformers = pytest.importorskip("transformers")
    library = getattr(transformers, f"{kind}ImageProcessor", None)
    if library is None:
        pytest.skip("not in this version")
    own = library().to_dict() if is_whole else {"image_processor_type": f"{kind}ImageProcessorFast"}
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(
        (480, 360), Image.Resampling.BICUBIC
    )
    expected = library()(image, return_tensors="pt")["pixel_values"][0]
    made = build_transform(transform_of(own))(image)
    made = made.flip(0) if read_processor(own, "p.json").is_flipped else made
    if kind == "MobileViT":  # its default crop is wider than its edge: the library pads
        made, expected = made[:, :200, :200], expected[:, 16:216, 16:216]
    assert made.shape == expected.shape
    assert (made - expected).abs().mean() < 0.03


def test_a_processor_that_gives_blue_first(tmp_path: Path) -> None:
    model, folder = save_hub(tmp_path / "m"), tmp_path / "m"
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "MobileViTImageProcessor"}))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    classifier = load_classifier(folder)
    with torch.no_grad():
        torch.testing.assert_close(classifier.model(images), model(pixel_values=images.flip(1)).logits)
    said = {decision.what: (decision.taken, decision.why) for decision in classifier.decisions}
    assert said["channel order"] == ("blue first", "do_flip_channel_order of its image processor")
    assert said["mean, std"] == ("0 0 0; 1 1 1", "MobileViTImageProcessor does not normalise")


def test_blue_first_is_refused_or_said_where_the_network_is_not_transformers_own(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        model = timm.create_model("test_resnet", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own"}))
    own = {"size": 64, "do_flip_channel_order": True}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": own}))
    with pytest.raises(CheckpointError, match="takes images with blue first"):
        load_classifier(tmp_path, "test_resnet")
    (tmp_path / "own.py").write_text(
        "import timm\ndef own():\n    return timm.create_model('test_resnet', num_classes=3)"
    )
    decisions = load_classifier(tmp_path, f"{tmp_path / 'own.py'}:own").decisions
    assert any(decision.what == "channel order" and decision.conflict for decision in decisions)


def test_without_transformers_the_family_and_the_extra_are_named(tmp_path: Path, monkeypatch) -> None:
    save_hub(tmp_path / "m")
    monkeypatch.setattr(transformers_folder, "has_transformers", lambda: False)
    with pytest.raises(CheckpointError, match="RegNetForImageClassification") as caught:
        load_classifier(tmp_path / "m")
    assert "salve-audit[hf]" in (caught.value.hint or "")


def test_a_folder_of_a_backbone_and_one_with_code_of_its_own(tmp_path: Path) -> None:
    save_hub(tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "architectures": ["RegNetModel"]}))
    with pytest.raises(CheckpointError, match=r"RegNetModel.*has no classifier for images"):
        load_classifier(tmp_path / "m")
    code = {"auto_map": {"AutoModelForImageClassification": "own.Own"}, "model_type": "own", "architectures": None}
    file.write_text(json.dumps({**config, **code}))
    (tmp_path / "m" / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CheckpointError, match="transformers cannot load"):
        load_classifier(tmp_path / "m")
    assert not (tmp_path / "ran").exists()


def turned_folder(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in "abc":
        (root / name).mkdir(parents=True)
        for index in range(4):
            exif = Image.Exif()
            exif[0x0112] = 6 if index % 2 else 1
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.jpg", exif=exif)
    return root


def test_a_stored_orientation_is_ignored_as_the_loaders_do_and_said(
    save, tiny_state, tiny_arch, tmp_path: Path
) -> None:
    images = load_images(turned_folder(tmp_path / "data"), seed=0)
    classifier = load_classifier(save(tiny_state), tiny_arch)
    upright = classifier.with_orientation("upright", "--orientation")
    key = next(path for path in images.audit.paths if path.endswith(("1.jpg", "3.jpg")))
    as_stored, turned = (
        first_images(images.reader, [key], version.transform, 1)[0] for version in (classifier, upright)
    )
    assert not torch.equal(as_stored, turned)
    with Image.open(images.root / key) as opened:
        assert load_image(images.root / key).size == opened.size
    matched = match_classes(images, 3)
    said = next(decision for decision in list_decisions(classifier, matched) if decision.what == "EXIF orientation")
    assert "ignored" in said.taken
    assert "--orientation upright" in said.why
    said = next(decision for decision in list_decisions(upright, matched) if decision.what == "EXIF orientation")
    assert (said.taken, said.why.partition(";")[0]) == ("upright", "--orientation")


def test_upright_images_need_no_decision(save, tiny_state, tiny_arch, make_folder) -> None:
    images = match_classes(load_images(make_folder(dict.fromkeys("abc", 3)), seed=0), 3)
    classifier = load_classifier(save(tiny_state), tiny_arch)
    assert not any(decision.what == "EXIF orientation" for decision in list_decisions(classifier, images))
