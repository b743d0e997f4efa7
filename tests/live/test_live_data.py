"""Data of every kind becomes the same images with the same labels, and whatever is wrong is named."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from live_world import NAMES, QUICK, World
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import salve_audit
from salve_audit.errors import DataError, OutputError, SalveError, UsageError
from salve_audit.live import images as live_images
from salve_audit.live.colours import Shown
from salve_audit.live.images import LiveImages, read_images
from salve_audit.live.output_names import check_names
from salve_audit.live.samples import Given
from salve_audit.live.selection import find_targets
from salve_audit.live.words import to_keywords


class Pairs(Dataset[tuple[Tensor, Any]]):
    """A map-style dataset; items as `make` makes them."""

    def __init__(self, images: Tensor, labels: Sequence[Any], make: Any = lambda image, label: (image, label)) -> None:
        self.images, self.labels, self.make = images, labels, make

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self):
            raise IndexError(index)
        return self.make(self.images[index], self.labels[index])


def read(data: Any, val: Any = None, shown: Shown | None = None, **options: Any) -> LiveImages:
    settings: dict[str, Any] = {"seed": 0, "limit": None, "classes": None, **options}
    transform = settings.pop("transform", None)
    given = Given("train", data, transform), None if val is None else Given("val", val, transform)
    return read_images(*given, shown or Shown(), **settings)


def contents(live: LiveImages) -> dict[str, tuple[int, bytes]]:
    splits = (live.images.fit, live.images.audit)
    reader = live.images.reader
    return {
        path: (label, reader.read(path).tobytes())
        for split in splits
        for path, label in zip(split.paths, split.labels, strict=True)
    }


IMAGES, LABELS = torch.rand(30, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
FORMS: dict[str, Any] = {
    "tensors": (IMAGES, LABELS),
    "arrays": [IMAGES.numpy(), LABELS.numpy()],
    "lists": ([*IMAGES], LABELS.tolist()),
    "list and column": [list(IMAGES.numpy()), pd.Series(LABELS.numpy(), index=range(5, 35))],
    "list and one-hot": ([*IMAGES], torch.nn.functional.one_hot(LABELS)),
    "mapping": {"images": IMAGES, "labels": LABELS.tolist()},
    "one-hot": (IMAGES, torch.nn.functional.one_hot(LABELS)),
    "column": (IMAGES.double(), LABELS[:, None].float()),
    "dataset": TensorDataset(IMAGES, LABELS),
    "names": Pairs(IMAGES, [NAMES[label] for label in LABELS]),
    "dictionaries": Pairs(IMAGES, LABELS.tolist(), lambda image, label: {"pixel_values": image, "label": label}),
    "more than two": Pairs(IMAGES.bfloat16().float(), LABELS, lambda image, label: (image, label, {"id": 3})),
    "subset": Subset(TensorDataset(IMAGES.flip(0), LABELS.flip(0)), range(29, -1, -1)),
    "loader": DataLoader(TensorDataset(IMAGES, LABELS), batch_size=7),
    "loader of dictionaries": DataLoader(
        Pairs(IMAGES, LABELS.tolist(), lambda image, label: {"x": image, "y": label}), batch_size=4
    ),
    "batches": [(IMAGES[:20], LABELS[:20]), (IMAGES[20:], LABELS[20:])],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_is_read_alike(form: str) -> None:
    live = read(FORMS[form], classes=NAMES)
    found = sorted(contents(live).values())
    expected = IMAGES.bfloat16().float() if form == "more than two" else IMAGES
    assert found == sorted(zip(LABELS.tolist(), (image.numpy().tobytes() for image in expected), strict=True))
    assert (len(live.images.fit.paths), len(live.images.audit.paths)) == (18, 12)
    assert contents(read(FORMS[form], classes=NAMES)) == contents(live)


def test_a_shuffled_loader_gives_the_same_images_every_time_and_keeps_its_generator() -> None:
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=7, shuffle=True, generator=generator)
    state = generator.get_state()
    assert contents(read(loader)) == contents(read(loader))
    assert generator.get_state().equal(state)


def test_a_limit_is_one_of_each_class_and_split() -> None:
    live = read(FORMS["dataset"], FORMS["loader"], limit=4)
    assert np.bincount(live.images.fit.labels).tolist() == [4, 4, 4]
    assert np.bincount(live.images.audit.labels).tolist() == [4, 4, 4]
    assert live.images.layout == "train to fit, val to audit"


class Counting(Dataset[Any]):
    """Counts what is read of it."""

    def __init__(self) -> None:
        self.targets, self.n_read = LABELS.tolist(), 0

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        self.n_read += 1
        return IMAGES[index], self.targets[index]


def test_under_a_limit_no_more_is_read_than_is_taken() -> None:
    train, val = Counting(), Counting()
    live = read(Subset(train, range(24)), DataLoader(val, batch_size=4, shuffle=True), limit=3)
    assert (train.n_read, val.n_read) == (9, 9)
    assert sorted(contents(live)) == sorted(live.images.fit.paths + live.images.audit.paths)
    train.target_transform = lambda label: label
    assert find_targets(train) is None
    sampled = DataLoader(val, sampler=torch.utils.data.SubsetRandomSampler([0, 1, 2, 3, 4, 5]))
    assert len(read(train, sampled, limit=3).images.audit.paths) == 6


def test_more_images_than_memory_is_granted_for_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(read(FORMS["batches"]))
    monkeypatch.setattr(live_images, "HELD", IMAGES.nbytes // 2)
    live = read(FORMS["batches"])
    assert isinstance(live.images.reader.values, np.memmap)
    assert contents(live) == before
    full = SimpleNamespace(write=Mock(side_effect=OSError(28, "No space left on device")))
    monkeypatch.setattr(live_images.tempfile, "TemporaryFile", lambda **_: full)
    with pytest.raises(OutputError, match=r"of images cannot be kept there .No space left"):
        read(FORMS["batches"])


class Normalize:
    """Named and made as torchvision's."""

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = mean, std

    def __call__(self, image: Tensor) -> Tensor:
        return (image - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
NORMALISED = Normalize(MEAN, STD)(IMAGES)


def test_mean_and_std_are_given_found_or_taken_from_the_range() -> None:
    own = Pairs(NORMALISED, LABELS)
    own.transform = SimpleNamespace(transforms=[SimpleNamespace(), Normalize(MEAN, STD)])
    assert read(Subset(own, range(30))).spec.mean == pytest.approx(MEAN)
    assert "Normalize of the dataset" in read(own).spec.source
    given = read((NORMALISED, LABELS), shown=Shown(MEAN, STD))
    assert given.spec.std == pytest.approx(STD)
    assert read((IMAGES, LABELS)).spec.mean == (0.0, 0.0, 0.0)
    spanned = read((NORMALISED, LABELS)).spec
    first = NORMALISED[:4].permute(0, 2, 3, 1) * torch.tensor(spanned.std) + torch.tensor(spanned.mean)
    assert -0.1 < float(first.min()) < float(first.max()) < 1.1
    assert spanned.is_prepared
    own.transform = Normalize([1000.0] * 3, [400.0] * 3)  # of CT, say
    assert read(own).spec == spanned


def test_mean_and_std_for_0_to_255_are_divided_and_said() -> None:
    as_bytes = [[255 * value for value in values] for values in (MEAN, STD)]
    own = Pairs(NORMALISED, LABELS)
    own.transform = Normalize(*as_bytes)
    for live in (read((NORMALISED, LABELS), shown=Shown(*as_bytes)), read(own)):
        assert (live.spec.mean, live.spec.std) == (pytest.approx(MEAN), pytest.approx(STD))
        assert live.notes == (
            "mean and std were given for pixels in 0 to 255 (127.5 102 76.5; 51 63.75 76.5), divided by 255",
        )
    pixels = (IMAGES * 255).byte()
    plain, large = (read((pixels, LABELS), shown=Shown(*moments)) for moments in ((MEAN, STD), as_bytes))
    np.testing.assert_allclose(large.images.reader.values, plain.images.reader.values, rtol=1e-5, atol=1e-6)
    blue_first = read((NORMALISED, LABELS), shown=Shown([103.939, 116.779, 123.68], 1))
    assert blue_first.notes[1].endswith("images are shown with red and blue exchanged")


def test_an_inverse_is_taken_as_a_scale_and_a_shift() -> None:
    def undo(image: Tensor) -> Tensor:
        return (image * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]).clamp(0, 1)

    live = read((NORMALISED, LABELS), shown=Shown(inverse=undo))
    assert live.spec.mean == pytest.approx(MEAN, abs=1e-4)
    assert live.spec.std == pytest.approx(STD, abs=1e-4)
    assert live.notes == ()
    as_bytes = Shown(inverse=lambda image: (undo(image) * 255).byte().permute(1, 2, 0).numpy())
    assert read((NORMALISED, LABELS), shown=as_bytes).spec.mean == pytest.approx(MEAN, abs=1e-2)
    bent = read((NORMALISED, LABELS), shown=Shown(inverse=lambda image: undo(image) ** 3))
    assert bent.notes[0].startswith("the inverse is more than a scale and a shift")


def test_bytes_are_normalised_as_told() -> None:
    pixels = (IMAGES * 255).round().byte().permute(0, 2, 3, 1).numpy()
    live = read((pixels, LABELS), shown=Shown(MEAN, STD))
    expected = (pixels[3].transpose(2, 0, 1) / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    path = next(path for path in contents(live) if path.endswith("03"))
    np.testing.assert_allclose(live.images.reader.read(path), expected, rtol=1e-5, atol=1e-6)
    grey = read((pixels[..., 0], LABELS), shown=Shown(0.5, 0.5))
    assert grey.spec.input_size == (1, 8, 8)


def write_folder(root: Path) -> None:
    for index in range(24):
        folder = root / ("cat", "dog")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 10 * index, np.uint8)).save(folder / f"{index}.png")


def test_files_keep_their_names_and_classes_theirs(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Normalize, ToTensor

    write_folder(tmp_path)
    plain = ImageFolder(tmp_path)
    with pytest.raises(DataError, match="the image of item 0 is a Image, no tensor") as raised:
        read(plain)
    assert "transform=" in (raised.value.hint or "")
    turned = read(plain, transform=ToTensor())
    folder = ImageFolder(tmp_path, transform=Compose([ToTensor(), Normalize(MEAN, STD)]))
    live = read(folder)
    assert turned.names == live.names == ("cat", "dog")
    assert live.spec.mean == pytest.approx(MEAN)
    assert "train/cat/0.png" in contents(live)
    some = {f"train/{Path(folder.samples[index][0]).relative_to(tmp_path).as_posix()}" for index in (0, 1, 20, 21)}
    assert contents(read(Subset(folder, [20, 0, 21, 1]))).keys() == some


def broken(index: int) -> Dataset[Any]:
    def make(image: Tensor, label: Tensor) -> Any:
        if int(label) == index:
            raise OSError("truncated")
        return image, label

    return Pairs(IMAGES, torch.arange(30), make)


def endless() -> Iterator[str]:
    yield "image"


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, UsageError, "train: int holds no images with labels"),
        ("folder", UsageError, "train: is a path ('folder'), expected images with labels"),
        (Path("folder"), UsageError, "train: is a path ('folder'), expected images with labels"),
        (([*IMAGES], LABELS[:-1].tolist()), DataError, "train: 30 images and 29 labels"),
        (endless(), DataError, "train: item 0 is a str, expected (image, label)"),
        ([], DataError, "train: holds no images"),
        ((IMAGES, LABELS[:-1]), DataError, "train: 30 images and 29 labels"),
        ((IMAGES.byte(), LABELS), UsageError, "train: its images are uint8, and how the model takes them is not known"),
        ((IMAGES[0], LABELS[:3]), DataError, "train: class 0 has 1 image, too few to divide"),
        ((IMAGES * float("nan"), LABELS), DataError, "train: train/00 or one near it holds NaN"),
        ((IMAGES, LABELS * 0), DataError, "train: one class only (0), an audit needs two or more"),
        ((IMAGES, torch.rand(30)), DataError, "train: the labels of item 0 are float32 (30,)"),
        ((IMAGES, torch.ones(30, 3)), DataError, "train: the labels of item 0 are float32 (30, 3)"),
        (broken(4), DataError, "train: item 4 cannot be read (OSError: truncated)"),
        (DataLoader(broken(4), batch_size=3), DataError, "train: batch 1 cannot be read (OSError: truncated)"),
        ([(IMAGES, LABELS), (IMAGES[..., :4], LABELS)], DataError, "train: its images are (3, 8, 4), those before"),
        ([([IMAGES[0], IMAGES[1, :, :4]], [0, 1])], DataError, "train: its images have several shapes"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(data: Any, error: type[SalveError], message: str) -> None:
    with pytest.raises(error) as raised:
        read(data)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "b"]}, "classes: 2 names for 3 outputs of the model"),
        ({"classes": "abc"}, "classes: expected names in output order, got str"),
        ({"classes": {"a", "b", "c"}}, "classes: expected names in output order, got set"),
        ({"classes": np.array([["a", "b", "c"]])}, "classes: expected names, got list ['a', 'b', 'c']"),
        ({"classes": {"a": 0, "b": 2, "c": 3}}, "classes: expected names by output, 0 to k - 1"),
        ({"classes": ["a", "b", "b"]}, "classes: the name 'b' is there twice"),
        ({"classes": ["a", "b", 3]}, "classes: expected names, got int 3"),
        ({"mean": 0.5}, "mean, std: give both or none of them"),
        ({"mean": [0.5, 0.5], "std": 0.5}, "mean, std: 2 values for images of 3 channels"),
        ({"mean": 0.5, "std": 51}, "mean, std: mean (0.5, 0.5, 0.5) is for pixels in 0 to 1, standard deviation (51"),
        ({"mean": 1000, "std": 400}, "mean, std: are for pixels beyond 255"),
        ({"mean": 0.5, "std": 0}, "std: is not above 0"),
        ({"inverse": lambda image: image[:, :4]}, "inverse: returns (3, 4, 16) for an image (3, 16, 16)"),
        ({"inverse": lambda image: image.nothing}, "inverse: fails on an image (AttributeError"),
        ({"head": "conv"}, "Tiny: its module 'conv' is of type Conv2d, no linear layer"),
        ({"head": "fcc"}, "Tiny: has no module 'fcc'"),
        ({"limt": 3}, "limt: is no option"),
        ({"arch": "resnet18"}, "arch: is an option of audits of files"),
        ({"limit": "60"}, "limit: expected int, got str"),
        ({"classes": {1: "a", 2: "b"}}, "classes: expected names by output, 0 to k - 1"),
        ({"head": torch.nn.Linear(3, 3)}, "head: this Linear is no layer of the model"),
        ({"head": 4}, "head: expected a dotted path or a layer of the model, got int"),
        ({"saliency_layer": "fcc", "images": True}, "Tiny: has no module 'fcc'"),
        ({"out": __file__}, f"{__file__}: is a file, not a folder"),
    ],
)
def test_a_wrong_argument_is_one_clear_error(options: dict[str, Any], message: str, world: World) -> None:
    with pytest.raises(SalveError) as raised:
        salve_audit.audit_model(world.model, world.train, world.val, **{**QUICK, **options})
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["a", "b", "c"]),
        np.array(["a", "b", "c"], object),
        pd.Index(["a", "b", "c"]),
        {"c": 2, "a": np.int64(0), "b": 1},
        {"2": "c", "0": "a", "1": "b"},
        {2: "c", 0: "a", 1: "b"},
        {"a": 0, "b": 1, "c": 2}.keys(),
    ],
    ids=repr,
)
def test_names_in_any_usual_form_are_those_of_the_outputs(classes: Any) -> None:
    assert check_names(classes) == ("a", "b", "c")
    assert check_names({"2": 0, "1": 1, "0": 2}) == ("2", "1", "0")  # folders that are named by numbers


def test_a_class_without_images_to_fit_is_named() -> None:
    with pytest.raises(DataError, match="val: class 2 is in val and not in train"):
        read((IMAGES[:2], LABELS[:2]), (IMAGES, LABELS))


def test_errors_speak_of_keywords(world: World) -> None:
    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = world.model

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.inner(x)

    with pytest.raises(SalveError) as raised:
        salve_audit.audit_model(Doubled(), world.train, world.val, **QUICK)
    assert (
        raised.value.hint
        == "name the final linear layer with head=MODULE; the network must return its output unchanged"
    )
    assert to_keywords("try --workers 0, or --device cpu, or --no-cache") == "try workers=0, or device=cpu, or no_cache"


def test_the_second_audit_comes_from_the_cache_and_another_model_does_not(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("salve_audit"), "propagate", True)  # whatever a command line has set
    settings = {**QUICK, "classes": NAMES, "use_cache": True, "cache": tmp_path}
    first = salve_audit.audit_model(world.model, world.train, world.val, **settings)
    with caplog.at_level("INFO", logger="salve_audit"):
        again = salve_audit.audit_model(world.model, world.train, world.val, **settings)
    assert "autoencoder: from the cache" in caplog.text
    assert again.classes == first.classes
    other = type(world.model)()
    changed = salve_audit.audit_model(other, world.train, world.val, **settings)
    assert changed.provenance.model_sha256 != first.provenance.model_sha256
    assert changed.classes != first.classes
