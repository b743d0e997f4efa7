"""Heads of every kind through the command line: the head that was written makes the network's own logits."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import nn

from salve_audit import load_audit

pytestmark = pytest.mark.slow

HEADS = Path(__file__).resolve().parents[1] / "models" / "heads.py"
QUICK = (
    "--format",
    "json",
    "--n-latents",
    "8",
    "--sae",
    "paper",
    "--interventions",
    "salve",
    "--no-cache",
    "--limit",
    "16",
    "--workers",
    "0",
    "--quiet",
)


def build(name: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location("heads_for_tests", HEADS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)().eval()


def load_images(paths: list[Path]) -> torch.Tensor:
    arrays = [np.asarray(Image.open(path), dtype=np.float32) / 255 for path in paths]
    return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) - 0.5) / 0.5


@dataclass(frozen=True)
class World:
    """Images in folders, and a way to train a network on them for a moment."""

    data: Path
    place: Path

    def save(self, name: str, **around: object) -> tuple[Path, nn.Module]:
        """The checkpoint of a trained network with that head, and the network."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build(name).train()
            files = sorted((self.data / "train").glob("*/*.png"))
            classes = sorted({file.parent.name for file in files})
            labels = torch.tensor([classes.index(file.parent.name) for file in files])
            images = load_images(files)
            optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
            for _ in range(15):
                optimiser.zero_grad()
                self._loss(model(images), labels).backward()
                optimiser.step()
        path = self.place / f"{name}.pt"
        state = model.eval().state_dict()
        torch.save({"state_dict": state, **around} if around else state, path)
        return path, model

    def _loss(self, output: torch.Tensor | tuple, labels: torch.Tensor) -> torch.Tensor:
        output = sum(output) / 2 if isinstance(output, tuple) else output  # DeiT returns both heads in training
        if output.ndim == 1:
            return nn.functional.binary_cross_entropy(output, labels.float())
        if output.shape[1] == 1:
            return nn.functional.binary_cross_entropy_with_logits(output[:, 0], labels.float())
        if (output >= 0).all() and (output <= 1).all():
            return nn.functional.binary_cross_entropy(output, nn.functional.one_hot(labels, output.shape[1]).float())
        return nn.functional.cross_entropy(output, labels)


@pytest.fixture
def world(colour_data: Path, tmp_path: Path) -> World:
    return World(colour_data, tmp_path)


@pytest.fixture
def pair(colour_data: Path, tmp_path: Path) -> World:
    """Images of the world without the third class."""
    shutil.copytree(colour_data, tmp_path / "pair")
    for split in ("train", "val"):
        shutil.rmtree(tmp_path / "pair" / split / "red")
    return World(tmp_path / "pair", tmp_path)


def audit(salve: Callable, path: Path, world: World, name: str, *more: object) -> tuple[Path, dict[str, np.ndarray]]:
    out = world.place / "out"
    done = salve(path, world.data, "--arch", f"{HEADS}:{name}", "--out", out, "--keep-activations", *QUICK, *more)
    assert done.code == 0, done.err
    return out, load_file(out / "activations.safetensors")


def network_outputs(out: Path, world: World, model: nn.Module) -> np.ndarray:
    """What the network itself says of the audited images, in the order of the samples."""
    import pandas as pd

    paths = pd.read_parquet(out / "samples.parquet").path
    with torch.inference_mode():
        return model(load_images([world.data / path for path in paths])).numpy()


@pytest.mark.parametrize(
    ("name", "head", "width", "note"),
    [
        ("conv_before_pool", "1", 12, "1x1 convolution"),
        ("conv_after_pool", "2", 12, "1x1 convolution"),
        ("tokens", "head", 12, None),
        ("two_heads", "first,second", 19, "average of the layers 'first' and 'second'"),
        ("distilled", "head,head_dist", 48, "average of the layers 'head' and 'head_dist'"),
        ("cosine", "2", 12, "compares directions"),
        ("normed", "head", 12, "compares directions"),
        ("no_bias", "2", 12, None),
        ("mlp", "1.2", 9, "is an MLP"),
    ],
)
def test_the_written_head_makes_the_networks_logits(
    salve: Callable, world: World, name: str, head: str, width: int, note: str | None
) -> None:
    path, model = world.save(name)
    out, saved = audit(salve, path, world, name)
    result = load_audit(out)
    assert (result.model.head, result.model.d, result.model.n_classes) == (head, width, 3)
    assert result.model.head_error < 1e-5
    logits = saved["audit_acts"] @ saved["head_weight"].T + saved["head_bias"]
    own = network_outputs(out, world, model)
    np.testing.assert_allclose(logits, own, atol=2e-5 * np.abs(own).max())
    assert (note is None) or any(note in line for line in result.notes), result.notes
    # the network was trained: this is no noise
    assert np.mean([class_record.accuracy for class_record in result.classes]) > 0.6


def test_cosine_activations_have_length_one(salve: Callable, world: World) -> None:
    path, model = world.save("cosine")
    _, saved = audit(salve, path, world, "cosine")
    np.testing.assert_allclose(np.linalg.norm(saved["audit_acts"], axis=1), 1, atol=1e-6)
    factor = float(model[2].log_scale.detach().exp())
    np.testing.assert_allclose(np.linalg.norm(saved["head_weight"], axis=1), factor, rtol=1e-5)
    assert not saved["head_bias"].any()


@pytest.mark.parametrize("name", ["one_output", "one_probability"])
def test_one_output_is_two_classes(salve: Callable, pair: World, name: str) -> None:
    path, model = pair.save(name)
    out, saved = audit(salve, path, pair, name)
    result = load_audit(out)
    assert (result.model.n_classes, [class_record.name for class_record in result.classes]) == (2, ["blue", "green"])
    logits = saved["audit_acts"] @ saved["head_weight"].T + saved["head_bias"]
    own = network_outputs(out, pair, model).reshape(-1)
    if name == "one_probability":
        own = np.log(own.astype(np.float64)) - np.log1p(-own.astype(np.float64))
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], own, atol=1e-3)
    np.testing.assert_allclose(logits.sum(1), 0, atol=1e-6)
    assert result.classes[0].status.not_applicable < result.classes[0].n  # class 0 has thresholds of its own
    assert any("one output" in note for note in result.notes)


def test_softmax_is_looked_through(salve: Callable, world: World) -> None:
    path, model = world.save("probabilities")
    out, saved = audit(salve, path, world, "probabilities")
    logits = torch.from_numpy(saved["audit_acts"] @ saved["head_weight"].T + saved["head_bias"])
    np.testing.assert_allclose(logits.softmax(1), network_outputs(out, world, model), atol=1e-5)
    assert any("ends with softmax" in note for note in load_audit(out).notes)


@pytest.mark.parametrize(
    ("name", "last"),
    [("rectified_conv", "'2' (ReLU), '3.0' (AdaptiveAvgPool2d), '3.1' (Flatten)"), ("distance", "'2' (MinusDistance)")],
)
def test_no_linear_head_names_what_is_there(salve: Callable, world: World, name: str, last: str) -> None:
    path, _ = world.save(name)
    done = salve(path, world.data, "--arch", f"{HEADS}:{name}", "--out", world.place / "out", *QUICK)
    assert done.code == 2
    assert last in done.err
    assert "hint: name the final linear layer with --head" in done.err
    assert not (world.place / "out").exists()


def test_a_named_head_is_verified_too(salve: Callable, world: World) -> None:
    path, _ = world.save("mlp")
    done = salve(path, world.data, "--arch", f"{HEADS}:mlp", "--head", "1.0", "--out", world.place / "out", *QUICK)
    assert done.code == 2
    assert "its layer '1.0' has 9 outputs, the network returns (3,)" in done.err


def test_several_heads_can_be_named(salve: Callable, world: World) -> None:
    path, _ = world.save("two_heads")
    out, _ = audit(salve, path, world, "two_heads", "--head", "first,second")
    assert load_audit(out).model.head == "first,second"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two_heads", ["first: Linear", "second: Linear", "2 layers averaged"]),
        ("cosine", ["cosines times"]),
        ("mlp", ["1.2: Linear(in_features=9", "is an MLP"]),
        ("one_probability", ["then sigmoid", "one output"]),
    ],
)
def test_inspect_says_what_the_head_is(salve: Callable, world: World, pair: World, name: str, words: list) -> None:
    path, _ = (pair if name.startswith("one") else world).save(name)
    done = salve("inspect", path, "--arch", f"{HEADS}:{name}")
    assert done.code == 0, done.err
    for word in words:
        assert word in done.out


def test_the_cache_tells_kinds_of_head_apart(salve: Callable, world: World) -> None:
    """One file read as cosine and, by a function of the same parts, as linear: two sets of activations."""
    path, _ = world.save("no_bias")
    state = torch.load(path, weights_only=True)
    cosine_path = world.place / "cosine.pt"
    torch.save({**state, "2.log_scale": torch.tensor(2.0)}, cosine_path)
    cache = world.place / "cache"
    quick = [word for word in QUICK if word != "--no-cache"]
    for file, name in ((path, "no_bias"), (cosine_path, "cosine"), (path, "no_bias")):
        out = world.place / name
        done = salve(file, world.data, "--arch", f"{HEADS}:{name}", "--out", out, "--cache", cache, *quick)
        assert done.code == 0, done.err
    assert len(list(cache.glob("*/acts.npy"))) == 2


def test_labels_that_do_not_exclude_each_other_are_audited_one_by_one(salve: Callable, world: World) -> None:
    path, model = world.save("labels")
    refused = salve(path, world.data, "--arch", f"{HEADS}:labels", "--out", world.place / "none", *QUICK)
    assert refused.code == 2
    assert "the 3 outputs of labels.pt do not exclude each other" in refused.err
    assert "hint: --label NAME, one of: blue, green, red" in refused.err
    assert not (world.place / "none").exists()
    out, saved = audit(salve, path, world, "labels", "--label", "green")
    result = load_audit(out)
    assert [class_record.name for class_record in result.classes] == ["not green", "green"]
    assert [class_record.n for class_record in result.classes] == [32, 16]
    logits = saved["audit_acts"] @ saved["head_weight"].T + saved["head_bias"]
    own = network_outputs(out, world, model)[:, 1].astype(np.float64)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], np.log(own) - np.log1p(-own), atol=1e-3)
    assert result.classes[1].n_correct == int((own[saved["audit_labels"] == 1] > 0.5).sum())
    assert any("label 'green' (output 1 of 3) is audited against its absence" in note for note in result.notes)


@pytest.mark.parametrize("args", [{"multi_label": True}, {"problem_type": "multi_label_classification"}])
def test_a_checkpoint_may_say_that_its_outputs_are_labels(salve: Callable, world: World, args: dict) -> None:
    path, _ = world.save("no_bias", args=args)
    done = salve(path, world.data, "--arch", f"{HEADS}:no_bias", "--out", world.place / "out", *QUICK)
    assert done.code == 2
    assert "do not exclude each other" in done.err
    assert "judged per label" in salve("inspect", path, "--arch", f"{HEADS}:no_bias").out


def test_raw_logits_become_labels_where_the_user_says_so(salve: Callable, world: World) -> None:
    path, _ = world.save("no_bias")
    out, _ = audit(salve, path, world, "no_bias", "--label", "red")
    assert [class_record.name for class_record in load_audit(out).classes] == ["not red", "red"]
    unknown = salve(path, world.data, "--arch", f"{HEADS}:no_bias", "--label", "pink", "--out", out, *QUICK)
    assert "there is no label 'pink'" in unknown.err
    assert unknown.code == 2


def test_one_output_has_no_labels_to_choose(salve: Callable, pair: World) -> None:
    path, _ = pair.save("one_output")
    done = salve(path, pair.data, "--arch", f"{HEADS}:one_output", "--label", "blue", "--out", "x", *QUICK)
    assert done.code == 2
    assert "the network has one output" in done.err
