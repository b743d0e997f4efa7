"""The stage on a small network: maps against gradients taken by hand, images as the network saw them, gaps named."""

from __future__ import annotations

import base64
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from salve_audit.activations.images import ImageDataset
from salve_audit.activations.store import ActivationSplit
from salve_audit.errors import LayerError
from salve_audit.inputs.data.imageset import ImageSet, ImageSplit
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.reliance.by_class import SampleThresholds
from salve_audit.results import HeatMap, Thumbnail, load_audit, nothing_seen
from salve_audit.results.transform import TransformSpec
from salve_audit.sae.models import TrainedSae
from salve_audit.saliency.drawing import DrawingInputs
from salve_audit.saliency.enlarge import enlarge_maps
from salve_audit.saliency.gallery import Chosen, ChosenClass, ChosenFeature
from salve_audit.saliency.gallery_maps import class_directions
from salve_audit.saliency.heat import overlay, share_in_hottest
from salve_audit.saliency.stage import SeeingInputs, see_features

SAMPLE = Path(__file__).resolve().parents[2] / "sample_reports" / "demo"
SIDE, N, D, K, M = 24, 12, 6, 3, 4
SPEC = TransformSpec((3, SIDE, SIDE), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bilinear", 1.0, "test")


class Net(nn.Module):
    """A map of 8 × 8, then something that is not linear, then the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, 3)
        self.act = nn.Tanh()
        self.mix = nn.Conv2d(5, D, 1)
        self.fc = nn.Linear(D, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.mix(self.act(self.stem(x)))).square().mean((2, 3)))


class Flat(nn.Module):
    """No layer of it knows a place."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, D), nn.ReLU())
        self.fc = nn.Linear(D, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x))


def build(model: nn.Module, root: Path) -> SeeingInputs:
    """Images on disk, activations of the network, a random linear autoencoder."""
    rng = np.random.default_rng(0)
    paths = tuple(f"{i % K}/{i}.png" for i in range(N))
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, size=(6, 6, 3)).astype(np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(root / path)
    model.eval().requires_grad_(False)
    classifier = Classifier(model, "net", "test", Path("net.pt"), "0" * 64, "fc", SPEC, None, False, ())
    labels = np.arange(N) % K
    split = ImageSplit(paths, tuple(labels.tolist()))
    images = ImageSet(root, ("a", "b", "c"), split, split, "one folder")
    batches: list[Tensor] = []
    handle = model.fc.register_forward_pre_hook(lambda _, given: batches.append(given[0]))
    model(tensors(root, paths))
    handle.remove()
    acts = batches[0].numpy()
    row = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    dictionary = row(M, D)
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    sae = TrainedSae("linear-l1", dictionary, row(M, D), row(M), row(D), {})
    flip = np.linspace(0.1, 2, N)
    thresholds = SampleThresholds(
        labels, (labels + 1) % K, flip, flip, flip, flip, np.full(N, 0.5), np.full(N, "crossed")
    )
    record = dataclasses.replace(load_audit(SAMPLE).classes[1], index=1, name="b", dominant_feature=2)
    chosen = Chosen((ChosenFeature(2, (7, 0, 3)), ChosenFeature(0, (3,))), (ChosenClass(record, (1, 4)),), 0, 0)
    head = LinearHead(model.fc.weight.numpy(), model.fc.bias.numpy(), "fc")
    audit = ActivationSplit(acts, labels, paths)
    drawing = DrawingInputs(classifier, images, audit, head, sae, sae.encode(acts), chosen)
    return SeeingInputs(drawing, thresholds, ("a", "b", "c"))


def with_drawing(inputs: SeeingInputs, **changes: object) -> SeeingInputs:
    return dataclasses.replace(inputs, drawing=dataclasses.replace(inputs.drawing, **changes))


def tensors(root: Path, paths: tuple[str, ...]) -> Tensor:
    pixels = np.stack([np.asarray(Image.open(root / path)) for path in paths]).astype(np.float32) / 255
    return torch.from_numpy((pixels - np.float32(SPEC.mean)) / np.float32(SPEC.std)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def inputs(tmp_path: Path) -> SeeingInputs:
    torch.manual_seed(0)
    return build(Net(), tmp_path)


def decoded(image: Thumbnail) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image.jpeg))))


def map_by_hand(inputs: SeeingInputs, row: int, direction: np.ndarray) -> np.ndarray:
    """Σ_c w_c F_c at the output of `act`, through torch's own graph of the whole network."""
    net, held = inputs.drawing.classifier.model, []
    hook = net.act.register_forward_hook(lambda _, __, out: held.append(out.requires_grad_()) or held[-1])
    acts: list[Tensor] = []
    other = net.fc.register_forward_pre_hook(lambda _, given: acts.append(given[0]))
    net(tensors(inputs.drawing.images.root, (inputs.drawing.audit.paths[row],)))
    hook.remove()
    other.remove()
    (gradient,) = torch.autograd.grad((acts[0] @ torch.from_numpy(direction)).sum(), held[0])
    return (gradient.mean((2, 3), keepdim=True) * held[0]).sum(1)[0].detach().numpy()


def test_maps_are_those_of_gradients_taken_by_hand(inputs: SeeingInputs) -> None:
    seeing, drawing = see_features(with_drawing(inputs, layer="act")), inputs.drawing
    assert (seeing.layer, seeing.grid) == ("act", (8, 8))
    assert [feature.feature for feature in seeing.features] == [2, 0]
    for gallery, rows in zip(seeing.features, ((7, 0, 3), (3,)), strict=True):
        for image, row in zip(gallery.images, rows, strict=True):
            heat = np.abs(map_by_hand(inputs, row, drawing.sae.encoder_weight[gallery.feature]))
            check_map(seeing.images[image.path], image.maps[0], "grad-fam", heat)
            assert image.code == pytest.approx(float(drawing.codes[row, gallery.feature]))
            assert (image.class_name, image.predicted) == ("abc"[row % 3],) * 2
    (fragile,) = seeing.fragile
    for image, row in zip(fragile.images, (1, 4), strict=True):
        heat = np.maximum(map_by_hand(inputs, row, drawing.head.weight[1]), 0)
        check_map(seeing.images[image.path], image.maps[0], "grad-cam", heat)
        assert image.alpha_hat == pytest.approx(inputs.thresholds.flip[row] * 0.5)
        assert image.flips_to == "c"


def check_map(image: Thumbnail, heat_map: HeatMap, method: str, heat: np.ndarray) -> None:
    """The convolution of stride 3 without padding leaves the grid where it is drawn: no shift."""
    assert heat_map.method == method
    large = enlarge_maps(torch.from_numpy(heat), (96, 96)).numpy()
    assert heat_map.in_top_fifth == pytest.approx(share_in_hottest(large), abs=0.01)
    drawn, ground = decoded(heat_map.overlay).astype(int), decoded(image)
    apart = [np.abs(drawn - overlay(ground, each)).mean() for each in (large, large[::-1], large[:, ::-1])]
    assert apart[0] < 15, "the same map over the same image, but for what two JPEGs lose"
    assert apart[0] < 0.6 * min(apart[1:]), "not upside down, nor mirrored"


def test_the_sharper_map_is_integrated_along_the_way_from_the_mean_in_the_direction_that_fires(
    inputs: SeeingInputs,
) -> None:
    """By hand at the layer it names: gradients at four points between, times the way; what speaks against is dark."""
    seeing, drawing = see_features(inputs), inputs.drawing
    net = drawing.classifier.model
    assert seeing.sharp_layer in ("stem", "act", "mix")
    signs = set()
    for gallery in seeing.features:
        for image in gallery.images:
            sign = 1 if image.code > 0 else -1
            signs.add(sign)
            direction = torch.from_numpy(sign * drawing.sae.encoder_weight[gallery.feature])
            end = output_of(net, seeing.sharp_layer, tensors(drawing.images.root, (image.path,)))
            start = end.mean((2, 3), keepdim=True)
            total = torch.zeros_like(end)
            for step in range(4):
                between = (start + (step + 0.5) / 4 * (end - start)).expand_as(end).clone().requires_grad_()
                acts = rest_of(net, seeing.sharp_layer, between)
                total += torch.autograd.grad((acts @ direction).sum(), between)[0]
            heat = (total / 4 * (end - start)).sum(1)[0].relu().numpy()
            check_map(seeing.images[image.path], image.maps[1], "integrated", heat)
    assert signs == {1, -1}


def output_of(net: nn.Module, layer: str, images: Tensor) -> Tensor:
    for name in ("stem", "act", "mix"):
        images = getattr(net, name)(images)
        if name == layer:
            break
    return images


def rest_of(net: nn.Module, layer: str, output: Tensor) -> Tensor:
    """From the layer's output to the head's inputs."""
    names = ("stem", "act", "mix")
    for name in names[names.index(layer) + 1 :]:
        output = getattr(net, name)(output)
    return torch.tanh(output).square().mean((2, 3))


def test_the_layer_is_found_where_none_is_named(inputs: SeeingInputs) -> None:
    assert see_features(inputs).layer in ("mix", "act")


def test_images_are_what_the_network_saw(inputs: SeeingInputs) -> None:
    """A centre crop of 80 % cuts the thumbnail, too; only the chosen images are there."""
    spec = dataclasses.replace(SPEC, crop_pct=0.8)
    cropped = with_drawing(inputs, classifier=dataclasses.replace(inputs.drawing.classifier, transform=spec))
    seeing = see_features(with_drawing(cropped, audit=activations_under(cropped.drawing)))
    assert sorted(seeing.images) == sorted({inputs.drawing.audit.paths[row] for row in (0, 1, 3, 4, 7)})
    for path, image in seeing.images.items():
        whole = Image.open(inputs.drawing.images.root / path).resize((30, 30), Image.Resampling.BILINEAR)
        expected = np.asarray(whole.crop((3, 3, 27, 27)).resize((96, 96), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(decoded(image).astype(int) - expected).mean() < 6


def activations_under(inputs: DrawingInputs) -> ActivationSplit:
    """Activations of the audit split as its transform makes them."""
    dataset = ImageDataset(inputs.images.reader, inputs.audit.paths, inputs.classifier.transform)
    batches: list[Tensor] = []
    handle = inputs.classifier.model.fc.register_forward_pre_hook(lambda _, given: batches.append(given[0]))
    inputs.classifier.model(torch.stack([dataset[i].image for i in range(len(dataset))]))
    handle.remove()
    return dataclasses.replace(inputs.audit, acts=batches[0].numpy())


def test_the_same_inputs_give_the_same_record(inputs: SeeingInputs) -> None:
    assert see_features(inputs) == see_features(inputs)


def test_images_that_are_gone_damaged_or_changed_are_named(inputs: SeeingInputs) -> None:
    root, paths = inputs.drawing.images.root, inputs.drawing.audit.paths
    whole = see_features(inputs)
    (root / paths[7]).unlink()
    (root / paths[3]).write_bytes(b"no image")
    Image.new("RGB", (SIDE, SIDE), "red").save(root / paths[4])
    seeing = see_features(inputs)
    told = {skipped.path: skipped.reason for skipped in seeing.unreadable}
    assert told == {
        paths[3]: "not an image in a known format",
        paths[4]: "changed since its activations were computed",
        paths[7]: "cannot be read (No such file or directory)",
    }
    assert set(seeing.images) == {paths[0], paths[1]}
    gallery = seeing.features[0].images
    assert [image.path for image in gallery] == [paths[7], paths[0], paths[3]], "their places stay"
    assert [bool(image.maps) for image in gallery] == [False, True, False]
    second_image, before = gallery[1], whole.features[0].images[1]
    assert (second_image.path, second_image.code, second_image.class_name) == (
        before.path,
        before.code,
        before.class_name,
    )
    assert seeing.images[second_image.path] == whole.images[second_image.path]


def test_all_images_gone_is_a_reason_not_a_crash(inputs: SeeingInputs) -> None:
    for path in inputs.drawing.audit.paths:
        (inputs.drawing.images.root / path).unlink()
    assert see_features(inputs) == nothing_seen(f"{inputs.drawing.images.root}: no image to audit can be read")


def test_a_network_without_places_says_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    seeing = see_features(build(Flat(), tmp_path))
    assert seeing.why_absent.startswith("net.pt: no ")
    assert (seeing.features, seeing.images) == ((), {})


def test_a_backward_pass_that_fails_costs_the_section_not_the_audit(
    inputs: SeeingInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("salve_audit.saliency.gallery_maps.GalleryMaps.compute", fail)
    why = "net.pt: its heat maps cannot be computed (OutOfMemoryError: out of memory)"
    assert see_features(inputs) == nothing_seen(why)


def test_a_layer_that_the_user_names_must_give_maps(inputs: SeeingInputs) -> None:
    with pytest.raises(LayerError, match=r"net\.pt: has no module 'acct'") as raised:
        see_features(with_drawing(inputs, layer="acct"))
    assert raised.value.hint is not None
    assert "act" in raised.value.hint


def test_more_images_than_one_pass_holds(inputs: SeeingInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into passes of two images, the record stays what it is, up to rounding of the maps."""
    whole = see_features(inputs)
    monkeypatch.setattr("salve_audit.saliency.drawing.BATCH", 2)
    parts = see_features(inputs)
    assert parts.images == whole.images
    shares = [[i.maps[0].in_top_fifth for gallery in each.features for i in gallery.images] for each in (parts, whole)]
    np.testing.assert_allclose(shares[0], shares[1], rtol=1e-4)


def test_two_classes_are_distinguished_by_the_difference_of_their_rows() -> None:
    head = LinearHead(np.array([[0.0, 0.0], [1.0, -2.0]], np.float32), np.zeros(2, np.float32), "fc")
    np.testing.assert_array_equal(class_directions(head), [[-1.0, 2.0], [1.0, -2.0]])
