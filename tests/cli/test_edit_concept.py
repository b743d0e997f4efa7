"""Concepts removed from the command line: checkpoints whose readers of a layer no longer see them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from quick_audits import ONE_SEED as QUICK
from safetensors.numpy import load_file

from salve_audit.cli.app import run
from salve_audit.evidence.concept_file import (
    FILE,
    SavedProjections,
    load_class_means,
    load_projections,
    serialise_projections,
)
from salve_audit.evidence.projection_fitting import ConceptProjections

pytestmark = pytest.mark.slow

KWARGS = {"channels": (12, 12, 16, 32), "stem_width": 8}
CLASSES = ("cross", "disk", "stripes")
READERS = {"layer2.0.conv1.weight", "layer2.0.downsample.1.weight"}
State = dict[str, torch.Tensor]


def draw_one(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Noise with one thing somewhere: a coloured 10 x 10 patch of a pattern of its own."""
    pixels = rng.normal(110, 18, size=(32, 32, 3))
    top, left = rng.integers(2, 20, size=2)
    rows, columns = np.mgrid[:10, :10]
    shown = {
        "cross": (abs(rows - 4.5) < 2) | (abs(columns - 4.5) < 2),
        "disk": (rows - 4.5) ** 2 + (columns - 4.5) ** 2 < 22,
        "stripes": rows % 4 < 2,
    }[kind]
    colour = {"cross": (220, 60, 60), "disk": (60, 200, 70), "stripes": (60, 80, 220)}[kind]
    pixels[top : top + 10, left : left + 10][shown] = colour
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("places"), np.random.default_rng(0)
    for split, n in {"train": 60, "val": 24}.items():
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(draw_one(name, rng)).save(root / split / name / f"{i:03d}.png")
    return root


def prepared(data: Path, split: str = "val") -> tuple[torch.Tensor, np.ndarray]:
    files = [(label, path) for label, name in enumerate(CLASSES) for path in sorted((data / split / name).iterdir())]
    arrays = [np.asarray(Image.open(path), dtype=np.float32) / 255 for _, path in files]
    return (torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) - 0.5) / 0.5, np.array([label for label, _ in files])


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model("resnet10t", num_classes=3, **KWARGS)
        (images, labels), optimiser = prepared(data, "train"), torch.optim.AdamW(network.parameters(), lr=4e-3)
        for _ in range(6):
            for rows in torch.randperm(len(labels)).split(45):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(network(images[rows]), torch.from_numpy(labels)[rows]).backward()
                optimiser.step()
    half = (0.5, 0.5, 0.5)
    args = {"num_classes": 3, "img_size": 32, "mean": half, "std": half, "interpolation": "bilinear", "crop_pct": 1.0}
    path = tmp_path_factory.mktemp("placed") / "places.pt"
    state = network.eval().state_dict()
    torch.save({"arch": "resnet10t", "state_dict": state, "args": {**args, "model_kwargs": KWARGS}}, path)
    return path


@pytest.fixture(scope="module")
def audited(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit, which leaves projections of what its classes depend on beside it."""
    place = tmp_path_factory.mktemp("concepts")
    options = [*QUICK, "--out", place / "out", "--cache", place / "cache", "--format", "json", "--no-images", "-q"]
    assert run([str(argument) for argument in (model, data, *options)]) == 0
    return place


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    return content


def strongest(audit: dict[str, Any]) -> list[int | None]:
    """Per class the index of the place that it depends on most; None: on none."""
    places = [(index, concept) for index, concept in enumerate(audit["concepts"]) if concept["kind"] == "region"]
    return [next((index for index, concept in places if concept["class"] == name), None) for name in CLASSES]


@pytest.fixture
def edit(salve: Callable, audited: Path, data: Path) -> Callable[..., Any]:
    def call(model: Path, *options: object, audit: Path | None = None) -> Any:
        return salve("edit", model, audit or audited / "out", *options, "--data", data, "--cache", audited / "cache")

    return call


def plain(state: State) -> torch.nn.Module:
    network = timm.create_model("resnet10t", num_classes=3, **KWARGS)
    network.load_state_dict(state, strict=True)
    return network.eval()


def logits(state: State, images: torch.Tensor, hook: Callable[..., Any] | None = None) -> torch.Tensor:
    network = plain(state)
    if hook is not None:
        network.get_submodule("layer1").register_forward_hook(hook)
    with torch.inference_mode():
        return network(images)


def removing(folder: Path, index: int, strength: float) -> Callable[..., torch.Tensor]:
    """A hook by the numbers in the file, which knows nothing of weights."""
    arrays = load_file(folder / FILE)
    read, written = (torch.from_numpy(arrays[f"concept.{index}.{part}"]).float() for part in ("readout", "directions"))

    def hook(_: torch.nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output - strength * torch.einsum("bchw,rc,rd->bdhw", output, read, written)

    return hook


def test_the_written_file_does_what_a_hook_on_the_layer_does(
    edit: Callable, audited: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    audit, out = read(audited / "out"), tmp_path / "edited.pt"
    index = strongest(audit)[0]
    assert index is not None, "the class depends on a place"
    done = edit(model, "--concept", "cross", "-o", out)
    assert done.code == 0, done.err
    assert f"concept: remove concept {index} (of cross), strength 1\n" in done.out
    assert "verified: the file was loaded and run on 72 images" in done.out
    before, after = (torch.load(path, weights_only=True) for path in (model, out))
    changed = {
        name for name, tensor in before["state_dict"].items() if not torch.equal(tensor, after["state_dict"][name])
    }
    assert changed == READERS
    images, labels = prepared(data)
    expected = logits(before["state_dict"], images, removing(audited / "out", index, 1.0))
    torch.testing.assert_close(logits(after["state_dict"], images), expected, rtol=1e-4, atol=1e-4)
    right = [logits(checkpoint["state_dict"], images).argmax(1).numpy() == labels for checkpoint in (before, after)]
    own, others = labels == 0, labels != 0
    assert right[0][own].mean() - right[1][own].mean() > 0.5, "the class depends on it"
    assert right[0][others].mean() - right[1][others].mean() < 0.1, "the others do not"
    record = after["salve_audit_edit"]
    assert set(record["tensors"]) == {f"state_dict.{name}" for name in READERS}
    rank = len(load_file(audited / "out" / FILE)[f"concept.{index}.readout"])
    assert (record["layer"], record["rank"], record["verified"]) == ("layer1", [rank], True)
    assert record["edits"] == [
        {"method": "concept", "concept": index, "class": "cross", "feature": None, "enhance": False, "strength": 1.0,
         "to_accuracy": None}
    ]  # fmt: skip
    row = next(line for line in done.out.splitlines() if line.startswith("cross"))
    assert row.split()[-2] == f"{100 * right[1][own].mean():.1f}"


@pytest.mark.parametrize(("options", "strength"), [((), 0.4), (("--enhance",), -0.4)])
def test_it_goes_by_number_and_strength_and_without_verification(
    options: tuple[str, ...], strength: float, salve: Callable, audited: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    index, out = strongest(read(audited / "out"))[2], tmp_path / "edited.pt"
    named = ("--concept", index, "--strength", 0.4, *options, "-o", out, "--no-verify")
    done = salve("edit", model, audited / "out", *named)
    assert done.code == 0, done.err
    assert "NOT VERIFIED" in done.err
    images, _ = prepared(data)
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (model, out))
    expected = logits(before, images, removing(audited / "out", index, strength))
    torch.testing.assert_close(logits(after, images), expected, rtol=1e-4, atol=1e-4)


def test_two_concepts_are_removed_one_after_another(
    edit: Callable, audited: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    (first, _, second), out = strongest(read(audited / "out")), tmp_path / "edited.pt"
    done = edit(model, "--edit", f"concept={first},strength=0.5", "--edit", f"concept={second}", "-o", out)
    assert done.code == 0, done.err
    first_alone, other = removing(audited / "out", first, 0.5), removing(audited / "out", second, 1.0)
    images, _ = prepared(data)
    before, after = (torch.load(each, weights_only=True)["state_dict"] for each in (model, out))
    expected = logits(before, images, lambda *given: other(None, None, first_alone(*given)))
    torch.testing.assert_close(logits(after, images), expected, rtol=1e-4, atol=1e-4)
    assert [each["concept"] for each in torch.load(out, weights_only=True)["salve_audit_edit"]["edits"]] == [
        first,
        second,
    ]


def test_an_accuracy_is_reached_by_runs(
    edit: Callable, salve: Callable, audited: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    out, index = tmp_path / "edited.pt", strongest(read(audited / "out"))[0]
    done = edit(model, "--concept", index, "--to-accuracy", 0.5, "-o", out)
    assert done.code == 0, done.err
    images, labels = prepared(data)
    after = torch.load(out, weights_only=True)
    assert (logits(after["state_dict"], images).argmax(1).numpy() == labels)[labels == 0].mean() <= 0.5
    strength = after["salve_audit_edit"]["edits"][0]["strength"]
    weaker = logits(_state(model), images, removing(audited / "out", index, 0.95 * strength))
    assert (weaker.argmax(1).numpy() == labels)[labels == 0].mean() > 0.5, "hardly stronger than needed"
    wanted = ("--concept", index, "--to-accuracy", 0.5, "-o", tmp_path / "none.pt", "--no-verify")
    done = salve("edit", model, audited / "out", *wanted)
    assert done.code == 2
    assert "is reached by runs of the network, which need images" in done.err


def _state(model: Path) -> State:
    state: State = torch.load(model, weights_only=True)["state_dict"]
    return state


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--concept", "99"), ("concept: 99: the audit's concepts are 0 to",)),
        (("--concept", "croos"), ("the audit has no class 'croos'", "nearest: cross")),
        (("--concept", "cross", "--class", "cross"), ("no class, feature or method goes with it",)),
        (("--concept", "cross", "--alpha-hat", "1"), ("alpha-hat: is SALVE's strength",)),
        (("--concept", "cross", "--strength", "-1"), ("strength: -1 is not a positive number",)),
        (("--concept", "cross", "--strength", "inf"), ("strength: inf is not a positive number",)),
        (("--concept", "cross", "--strength", "1", "--to-accuracy", "0.5"), ("only one of them",)),
        (
            ("--edit", "concept=cross", "--edit", "class=disk,alpha-hat=1"),
            ("removing a concept goes with others of",),
        ),
        (("--edit", "concept=cross", "--concept", "disk"), ("--concept: goes into an --edit of its own",)),
    ],
)
def test_what_cannot_be_done_is_said(
    edit: Callable, model: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(edit(model, *options, "-o", tmp_path / "edited.pt"), tmp_path, *words)


def refused(done: Any, folder: Path, *words: str) -> None:
    assert done.code == 2, done.out
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
    assert not (folder / "edited.pt").exists()


@pytest.fixture
def changed(audited: Path, tmp_path: Path) -> Callable[..., Path]:
    """The audit with another audit.json."""

    def make(change: Callable[[dict[str, Any]], None]) -> Path:
        folder = tmp_path / "audit"
        shutil.copytree(audited / "out", folder)
        content = read(folder)
        change(content)
        (folder / "audit.json").write_text(json.dumps(content))
        return folder

    return make


def test_half_precision_is_allowed_what_rounding_does(
    edit: Callable, audited: Path, model: Path, changed: Callable, data: Path, tmp_path: Path
) -> None:
    content, half = torch.load(model, weights_only=True), tmp_path / "half.pt"
    content["state_dict"] = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in content["state_dict"].items()
    }
    torch.save(content, half)
    sha = hashlib.sha256(half.read_bytes()).hexdigest()
    folder = changed(lambda audit: audit["provenance"].update(model_sha256=sha))
    saved = load_one((folder / FILE).read_bytes(), tmp_path)
    (folder / FILE).write_bytes(serialise_projections(replace(saved, hashes={"model_sha256": sha})))
    done = edit(half, "--concept", "cross", "-o", tmp_path / "edited.pt", audit=folder)
    assert done.code == 0, done.err
    after = torch.load(tmp_path / "edited.pt", weights_only=True)["state_dict"]
    assert {after[name].dtype for name in READERS} == {torch.float16}
    images, _ = prepared(data)
    states = [{name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
              for state in (content["state_dict"], after)]  # fmt: skip
    expected = logits(states[0], images, removing(audited / "out", strongest(read(folder))[0], 1.0))
    torch.testing.assert_close(logits(states[1], images), expected, rtol=0.02, atol=0.05)


def test_an_audit_without_projections_is_named(edit: Callable, model: Path, changed: Callable, tmp_path: Path) -> None:
    folder = changed(lambda audit: None)
    named = ("--concept", "cross", "-o", tmp_path / "edited.pt")
    whole = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(whole[:-8])
    refused(edit(model, *named, audit=folder), tmp_path, "not a safetensors file")
    (folder / FILE).unlink()
    refused(edit(model, *named, audit=folder), tmp_path, f"has no {FILE}", "audit the model again")
    saved = load_one(whole, tmp_path)
    for projections, words in (
        (SavedProjections(saved.concepts, saved.classes, {"model_sha256": "0" * 64}), "is of another model"),
        (SavedProjections(saved.concepts, dict.fromkeys(saved.classes, "disk"), saved.hashes), "is of another audit"),
        (SavedProjections(ConceptProjections(why_absent="it is a stream"), {}, saved.hashes), "it is a stream"),
    ):
        (folder / FILE).write_bytes(serialise_projections(projections))
        refused(edit(model, *named, audit=folder), tmp_path, words)
    left = {
        index: projection for index, projection in saved.concepts.projections.items() if saved.classes[index] != "cross"
    }
    partial = SavedProjections(
        ConceptProjections(saved.concepts.layer, left), {index: saved.classes[index] for index in left}, saved.hashes
    )
    (folder / FILE).write_bytes(serialise_projections(partial))
    refused(edit(model, *named, audit=folder), tmp_path, "has no projection", "there are: ")
    moved = SavedProjections(
        ConceptProjections("layer1.0.act1", saved.concepts.projections), saved.classes, saved.hashes
    )
    (folder / FILE).write_bytes(serialise_projections(moved))
    refused(edit(model, *named, audit=folder), tmp_path, "'layer1.0.act1' returns cannot be moved into the weights")


def load_one(content: bytes, folder: Path) -> SavedProjections:
    (folder / "one.safetensors").write_bytes(content)
    return load_projections(folder / "one.safetensors")


def test_what_is_no_place_cannot_be_projected_out(
    edit: Callable, model: Path, changed: Callable, tmp_path: Path
) -> None:
    index = None

    def make_frame(audit: dict[str, Any]) -> None:
        nonlocal index
        index = strongest(audit)[0]
        audit["concepts"][index]["kind"] = "border"

    folder = changed(make_frame)
    done = edit(model, "--concept", index, "-o", tmp_path / "edited.pt", audit=folder)
    refused(
        done, tmp_path, f"concept: {index} (of cross) is the border, a global factor, which cannot be projected out"
    )


def test_without_evidence_there_are_no_concepts(
    salve: Callable, edit: Callable, audited: Path, model: Path, data: Path, tmp_path: Path
) -> None:
    options = (*QUICK, "--evidence", "off", "--cache", audited / "cache", "--format", "json", "--no-images", "-q")
    assert salve(model, data, *options, "--out", tmp_path / "audit").code == 0
    done = edit(model, "--concept", "cross", "-o", tmp_path / "edited.pt", audit=tmp_path / "audit")
    why = "image reliance was not measured (it was turned off (--evidence off))"
    refused(done, tmp_path, why, "without --evidence off")


def test_another_model_is_refused(edit: Callable, model: Path, tmp_path: Path) -> None:
    content = torch.load(model, weights_only=True)
    content["state_dict"]["fc.bias"] += 1
    torch.save(content, tmp_path / "other.pt")
    done = edit(tmp_path / "other.pt", "--concept", "cross", "-o", tmp_path / "edited.pt")
    refused(
        done, tmp_path, "is an audit of another model", hashlib.sha256((tmp_path / "other.pt").read_bytes()).hexdigest()
    )


def test_the_file_holds_what_was_put_in(audited: Path, tmp_path: Path) -> None:
    content = (audited / "out" / FILE).read_bytes()
    saved = load_one(content, tmp_path)
    means = load_class_means(audited / "out" / FILE, len(CLASSES))
    assert serialise_projections(replace(saved, means=means)) == content
    assert saved.concepts.layer == "layer1"
    assert set(saved.classes.values()) <= set(CLASSES)
