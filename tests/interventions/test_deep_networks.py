"""Deep edits of weights against hooks, passes by hand and the algebra, on untrained networks of every family."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from torch import nn

from salve_audit.errors import DeepEditError
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.interventions.deep.network import DeepNetwork, edit_values, edited, hooked
from salve_audit.interventions.deep.projection import Projection, make_projection
from salve_audit.interventions.deep.stream import find_stream
from salve_audit.interventions.registry import ALL_WRITERS, DEEP_METHODS, LAST_BLOCK
from salve_audit.results.transform import TransformSpec

RESNET20 = Path(__file__).parents[1] / "models" / "resnet20.py"
SIDE = 32
TINY_VIT = {"img_size": SIDE, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 3}
TINY_CONVNEXT = {"depths": (1, 1, 1, 2), "dims": (8, 12, 16, 24)}


def _resnet20() -> nn.Module:
    spec = importlib.util.spec_from_file_location("tests_resnet20", RESNET20)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net: nn.Module = module.resnet20(5)
    return net


def _timm(name: str, **kwargs: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5, **kwargs)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "basic": (_timm("resnet18", channels=(8, 8, 12, 16)), "fc"),
    "one block": (_timm("resnet10t", channels=(8, 8, 12, 16), stem_width=8), "fc"),
    "bottleneck": (_timm("resnet26", channels=(8, 8, 12, 16)), "fc"),
    "option A": (_resnet20, "linear"),
    "class token": (_timm("vit_tiny_patch16_224", **TINY_VIT), "head"),
    "mean of tokens": (_timm("vit_tiny_patch16_224", **TINY_VIT, global_pool="avg", init_values=0.3), "head"),
    "gamma": (_timm("beit_base_patch16_224", **TINY_VIT), "head"),
    "convnext": (_timm("convnext_tiny", **TINY_CONVNEXT), "head.fc"),
    "convnext, convolutions": (_timm("convnext_atto", **TINY_CONVNEXT), "head.fc"),
}


def as_classifier(model: nn.Module, head: str) -> Classifier:
    return Classifier(
        model=model.eval().requires_grad_(False),
        architecture="some network",
        format="in memory",
        path=Path("net.pt"),
        sha256="",
        head_name=head,
        transform=TransformSpec((3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "test"),
        class_names=None,
        trusted_code=False,
        notes=(),
        head_reader=HeadReader("linear", (head,)),
    )


def build(name: str) -> Classifier:
    """Untrained, but with running statistics, scales and biases that are not those of a fresh network."""
    torch.manual_seed(0)
    make, head = NETWORKS[name]
    model = make()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.weight.data.uniform_(0.4, 1.5)
            module.bias.data.normal_(0, 0.3)
    for key, parameter in model.named_parameters():
        if "gamma" in key:
            parameter.data.uniform_(0.2, 1)
        elif key.endswith("bias"):
            parameter.data.normal_(0, 0.1)
        elif parameter.ndim == 2:
            parameter.data.normal_(0, 0.3)
    return as_classifier(model, head)


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def latent(d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A decoder direction, and an encoder row that has something in common with it."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=d)
    direction /= np.linalg.norm(direction)
    return direction, 0.6 * direction + rng.normal(size=d) * 0.5 / np.sqrt(d)


def project(classifier: Classifier, seed: int = 0, batch: torch.Tensor | None = None) -> Projection:
    stream = find_stream(classifier, images() if batch is None else batch)
    pulled = stream.readout.pull_back(classifier.model, *latent(classifier.head.in_features, seed), feature=seed)
    assert isinstance(pulled, Projection)
    return pulled


def test_the_projection_takes_out_what_the_encoder_reads() -> None:
    direction, encoder = latent(20)
    projection = make_projection(direction, encoder, 0)
    vectors = torch.randn(4, 6, 20, dtype=torch.float64)
    dense = np.eye(20) - 0.4 * np.outer(direction, encoder) / (encoder @ direction)
    np.testing.assert_allclose(projection.apply(vectors, 0.4).numpy(), vectors.numpy() @ dense.T, atol=1e-12)
    gone = projection.apply(vectors, 1.0)
    assert np.abs(gone.numpy() @ encoder).max() < 1e-12
    np.testing.assert_allclose(projection.apply(gone, 1.0).numpy(), gone.numpy(), atol=1e-12)


@pytest.mark.parametrize("cosine", [-1.0, 0.0, 0.04])
def test_directions_that_do_not_belong_together_are_refused(cosine: float) -> None:
    direction, across = np.eye(8)[:2]
    with pytest.raises(DeepEditError, match=r"feature 7: its encoder and decoder directions do not belong together"):
        make_projection(direction, cosine * direction + np.sqrt(1 - cosine**2) * across, 7)
    with pytest.raises(DeepEditError, match="one of them is zero"):
        make_projection(direction, np.zeros(8), 7)


@pytest.mark.parametrize("method", DEEP_METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_edited_weights_do_what_hooks_on_the_writers_do(name: str, method: str) -> None:
    classifier = build(name)
    model = copy.deepcopy(classifier.model).double()
    stream = find_stream(classifier, images())
    scope = stream.scope(method)
    edits = [(project(classifier, 0), 0.7), (project(classifier, 1), 1.6)]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prepared = images().double()
    with torch.inference_mode():
        plain = model(prepared)
        with hooked(model, scope, edits):
            expected = model(prepared)
        with edited(model, edit_values(model, scope, edits)):
            logits = model(prepared)
            state = {key: value.clone() for key, value in model.state_dict().items()}
    assert float((expected - plain).abs().max()) > 1e-3, "the edit does something"
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-10)

    layers = {writer.layer for writer in scope.writers} | {writer.norm for writer in scope.writers if writer.norm}
    changed = {key for key in before if not torch.equal(before[key], state[key])}
    assert {key.rpartition(".")[0] for key in changed} <= layers
    assert {writer.layer + ".weight" for writer in scope.writers} <= changed
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items()), "put back"


def test_a_stage_of_one_block_projects_the_sum_itself() -> None:
    classifier = build("one block")
    model, projection = copy.deepcopy(classifier.model).double(), project(classifier)
    scope = find_stream(classifier, images()).scope(ALL_WRITERS.key)
    sums: list[torch.Tensor] = []
    block = model.get_submodule("layer4.0")
    block.get_submodule("act2").register_forward_pre_hook(lambda _m, given: sums.append(given[0].clone()))
    with torch.inference_mode():
        model(images().double())
        with edited(model, edit_values(model, scope, [(projection, 0.8)])):
            model(images().double())
    expected = projection.apply(sums[0].movedim(1, -1), 0.8).movedim(-1, 1)
    torch.testing.assert_close(sums[1], expected, rtol=1e-9, atol=1e-10)


def test_the_last_transformer_block_by_hand() -> None:
    """``y = x + P attn(norm(x))``, then ``y + P mlp(norm(y))``, with the unedited layers."""
    classifier = build("mean of tokens")
    model, projection = copy.deepcopy(classifier.model).double(), project(classifier)
    scope = find_stream(classifier, images()).scope(LAST_BLOCK.key)
    block = model.get_submodule("blocks.2")
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    parts = {name: block.get_submodule(name) for name in ("norm1", "attn", "ls1", "norm2", "mlp", "ls2")}
    with torch.inference_mode():
        y = x + projection.apply(parts["ls1"](parts["attn"](parts["norm1"](x))), 1.3)
        expected = y + projection.apply(parts["ls2"](parts["mlp"](parts["norm2"](y))), 1.3)
        with edited(model, edit_values(model, scope, [(projection, 1.3)])):
            torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["class token", "convnext"])
def test_behind_a_layer_norm_the_projection_is_exact_but_for_its_scale(name: str) -> None:
    classifier = build(name)
    model, (direction, encoder) = copy.deepcopy(classifier.model).double(), latent(24)
    readout = find_stream(classifier, images()).readout
    projection = readout.pull_back(model, direction, encoder, 0)
    x = torch.randn(6, 24, 1, dtype=torch.float64) if readout.axis == 1 else torch.randn(6, 1, 24, dtype=torch.float64)
    flat = x.flatten(1)
    pushed = readout.push_forward(model, projection, encoder)
    offset = readout.offset(model)
    before = readout.read(model, x).numpy() - offset
    after = readout.read(model, projection.apply(flat, 1.0).reshape(x.shape)).numpy() - offset
    scales = [values.std(dim=1, correction=0).numpy()[:, None] for values in (projection.apply(flat, 1.0), flat)]
    exact = before - (before @ pushed.encoder)[:, None] * pushed.direction
    np.testing.assert_allclose(after * scales[0] / scales[1], exact, rtol=1e-4, atol=1e-5)  # the norm's epsilon
    assert np.abs(after @ encoder).max() < 1e-9 * np.abs(before @ encoder).max()


def test_a_channel_whose_scale_is_zero_stays_as_it_is() -> None:
    classifier = build("one block")
    norm = classifier.model.get_submodule("layer4.0.bn2")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight.data[3] = 0
    model, projection = copy.deepcopy(classifier.model).double(), project(classifier)
    scope = find_stream(classifier, images()).scope(ALL_WRITERS.key)
    values = edit_values(model, scope, [(projection, 1.0)])
    own = model.get_submodule("layer4.0.conv2").weight.double().numpy()
    assert all(np.isfinite(value).all() for value in values.values())
    np.testing.assert_array_equal(values["layer4.0.conv2.weight"][3], own[3])
    with torch.inference_mode():
        with hooked(model, scope, [(projection, 1.0)]):
            expected = model(images().double())
        with edited(model, values):
            torch.testing.assert_close(model(images().double()), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", DEEP_METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_rest_of_the_network_gives_the_heads_inputs(name: str, method: str) -> None:
    classifier = build(name)
    stream = find_stream(classifier, images())
    network, projection = DeepNetwork(classifier, stream, torch.device("cpu")), project(classifier)
    scope = stream.scope(method)
    (incoming,) = network.enter([scope], images(5))
    inputs: list[torch.Tensor] = []
    handle = classifier.head.register_forward_pre_hook(lambda _m, given: inputs.append(given[0]))
    with torch.inference_mode():
        classifier.model(images(5))
        with hooked(classifier.model, scope, [(projection, 0.9)]):
            classifier.model(images(5))
    handle.remove()
    plain, expected = (tokens.double().numpy() for tokens in inputs)
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(plain).max()}
    np.testing.assert_allclose(network.run(scope, incoming), plain, **tolerance)
    np.testing.assert_allclose(network.run_edited(scope, incoming, [(projection, 0.9)]), expected, **tolerance)
    np.testing.assert_allclose(network.run(scope, incoming), plain, **tolerance)
    assert network.count_work(scope, incoming) > 0


@pytest.mark.parametrize(
    ("name", "family", "n_writers", "left"),
    [
        ("basic", "ResNet", (1, 3), ("what comes into layer4.1 from below", "")),
        ("one block", "ResNet", (2, 2), ("", "")),
        ("bottleneck", "ResNet", (1, 3), ("what comes into layer4.1 from below", "")),
        (
            "option A",
            "ResNet",
            (1, 3),
            ("what comes into layer3.2 from below", "the shortcut around layer3.0, which has no weights"),
        ),
        ("class token", "vision transformer", (2, 6), ("what comes into blocks.2 from below", "the embeddings")),
        ("gamma", "vision transformer", (2, 6), ("what comes into blocks.2 from below", "the embeddings")),
        ("convnext", "ConvNeXt", (1, 3), ("what comes into stages.3.blocks.1 from below", "")),
    ],
)
def test_the_writers_are_found(name: str, family: str, n_writers: tuple[int, int], left: tuple[str, str]) -> None:
    stream = find_stream(build(name), images())
    scopes = [stream.scope(method) for method in DEEP_METHODS]
    assert stream.family == family
    assert tuple(len(scope.writers) for scope in scopes) == n_writers
    assert tuple(scope.left for scope in scopes) == left
    assert len(stream.scopes()) == (1 if n_writers[0] == n_writers[1] else 2)


@pytest.mark.parametrize(
    ("name", "kwargs", "head"),
    [
        ("seresnet50", {}, "fc"),  # what its layers write is scaled by what the image is
        ("efficientnet_b0", {}, "classifier"),
        ("resnetv2_50", {}, "head.fc"),  # pre-activation blocks
        (
            "eva02_tiny_patch14_224",
            {"img_size": 32, "patch_size": 8},
            "head",
        ),  # blocks are given positions beside the stream
    ],
)
def test_other_networks_are_refused(name: str, kwargs: dict[str, object], head: str) -> None:
    model = timm.create_model(name, num_classes=5, **kwargs)
    with pytest.raises(DeepEditError, match=r"^net\.pt: no deep edit is known for some network") as caught:
        find_stream(as_classifier(model, head), images(2))
    assert caught.value.hint is not None
    assert "edit the head instead" in caught.value.hint


class Half(nn.Module):
    """A block that keeps half of what it is told to add."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = block.conv1, block.bn1, block.conv2, block.bn2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + 0.5 * self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


def test_a_network_that_does_not_do_what_its_names_say_is_refused() -> None:
    classifier = build("basic")
    stage = classifier.model.get_submodule("layer4")
    assert isinstance(stage, nn.Sequential)
    stage[1] = Half(stage[1]).eval()
    with pytest.raises(DeepEditError, match=r"layer4\.1 does not return the sum of what its layers write"):
        find_stream(classifier, images())


def test_something_between_the_blocks_is_noticed() -> None:
    classifier = build("class token")
    classifier.model.get_submodule("blocks.1").register_forward_hook(lambda _m, _i, output: output * 1.01)
    classifier.model.get_submodule("blocks.2").register_forward_pre_hook(lambda _m, given: (given[0] * 0.99,))
    with pytest.raises(DeepEditError, match="no deep edit is known"):
        find_stream(classifier, images())


def test_a_readout_of_another_kind_is_refused() -> None:
    classifier = build("basic")
    classifier.model.get_submodule("global_pool").register_forward_hook(lambda _m, _i, output: output.sqrt())
    with pytest.raises(DeepEditError, match=r"what its head is given is not read from layer4\.1 in a known way"):
        find_stream(classifier, images())


@pytest.mark.parametrize("method", DEEP_METHODS)
@pytest.mark.parametrize(
    ("file", "arch"),
    [
        ("resnet18_cifar10_64.pt", None),
        ("vit_cifar10_32.pt", None),
        ("resnet20-12fca82f.th", str(RESNET20) + ":resnet20"),
    ],
)
def test_trained_networks_in_float32(shared_data: Path, file: str, arch: str | None, method: str) -> None:
    """Trained BatchNorms scale some channels by next to nothing: their weights change most."""
    classifier = load_classifier(shared_data / file, arch)
    model, images = classifier.model, torch.randn(4, *classifier.transform.input_size)
    scope = find_stream(classifier, images).scope(method)
    edits = [(project(classifier, batch=images), 1.5)]
    with torch.inference_mode():
        plain = model(images)
        with hooked(model, scope, edits):
            expected = model(images)
        with edited(model, edit_values(model, scope, edits)):
            logits = model(images)
    assert float((expected - plain).abs().max()) > 1e-2
    assert float((logits - expected).abs().max()) < 1e-4 * float(expected.abs().max())
