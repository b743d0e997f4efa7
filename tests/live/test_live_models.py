"""Modules of every kind are audited, and none of them is changed."""

from __future__ import annotations

import copy
import dataclasses
import functools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_world import NAMES, QUICK, Tiny, World, make_world
from torch import Tensor, nn

import salve_audit
from salve_audit import AuditResult
from salve_audit.errors import CheckpointError, DataError, HeadError, SalveError, UsageError
from salve_audit.live.module import copy_module


@dataclasses.dataclass
class Output:
    """As Hugging Face's classifiers return it."""

    logits: Tensor
    hidden_states: Tensor | None = None


class Wrapped(nn.Module):
    """A network whose forward pass does something else with the logits."""

    def __init__(self, inner: nn.Module, returns: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.backbone, self.returns = inner, returns

    def forward(self, pixel_values: Tensor) -> Any:
        return self.returns(self.backbone(pixel_values))


class Lightning(nn.Module):
    """Like a LightningModule without a forward pass of its own, with a trainer that cannot be copied."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.model, self.loss, self._trainer = inner, nn.CrossEntropyLoss(), (line for line in "data")


def with_weight_norm(model: nn.Module) -> nn.Module:
    """After a pass in training mode, where the old weight_norm leaves a weight with a history."""
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(model.conv)
    model(torch.zeros(1, 3, 16, 16))
    return model


KINDS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "half": lambda model: model.half(),
    "training": lambda model: model.train(),
    "frozen in part": lambda model: model.requires_grad_(False) and model,
    "object": lambda model: Wrapped(model, Output),
    "mapping": lambda model: Wrapped(model, lambda logits: {"loss": None, "logits": logits}),
    "tuple": lambda model: Wrapped(model, lambda logits: (logits, logits.mean())),
    "probabilities": lambda model: Wrapped(model, lambda logits: logits.softmax(1)),
    "lightning": Lightning,
    "data parallel": nn.DataParallel,
    "compiled": torch.compile,
    "weight_norm": with_weight_norm,
    "parametrised": lambda model: nn.utils.parametrizations.weight_norm(model.fc) and model,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, world: World) -> nn.Module:
    """A module of each kind, around a copy of the world's."""
    return KINDS[request.param](copy.deepcopy(world.model))


def state_of(model: nn.Module) -> list[Any]:
    """All that an audit could change in a module."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    values = {name: (tensor.dtype, tensor.requires_grad, tensor.clone()) for name, tensor in tensors.items()}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modes = [(module.training, *(len(getattr(module, name)) for name in hooks)) for module in model.modules()]
    return [values, modes, sorted(vars(model)), [tensor.grad is None for tensor in model.parameters()]]


def random_states() -> list[Any]:
    return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]  # noqa: NPY002


def assert_same(before: list[Any], after: list[Any]) -> None:
    assert before[0].keys() == after[0].keys()
    for name, (dtype, grad, tensor) in before[0].items():
        assert (dtype, grad) == after[0][name][:2], name
        assert torch.equal(tensor, after[0][name][2]), name
    assert before[1:] == after[1:]


def test_a_module_of_any_kind_is_edited_mapped_explained_and_left_as_it_is(
    kind: nn.Module, world: World, audited: AuditResult
) -> None:
    before, states = state_of(kind), random_states()
    edited = salve_audit.apply_edit(kind, audited, "castle", alpha_hat=100.0, check=False)
    maps = salve_audit.heat_map(kind, world.val[0][:2], class_name="castle", result=audited, check=False)
    (explained,) = salve_audit.explain(kind, world.val[0][0], audited, check=False)
    assert random_states() == states
    assert_same(before, state_of(kind))
    assert maps.shape == (2, 16, 16)
    assert explained.predicted.name == "castle"
    assert repr(explained).startswith("<Explanation of image 0: castle ")
    assert {tensor.dtype for tensor in edited.parameters()} == {tensor.dtype for tensor in kind.parameters()}
    inner = edited.model if isinstance(edited, Lightning) else edited
    logits = inner.eval()(world.val[0].to(next(edited.parameters()).dtype))
    logits = logits["logits"] if isinstance(logits, dict) else getattr(logits, "logits", logits)
    logits = logits[0] if isinstance(logits, tuple) else logits
    assert not (logits.argmax(1) == 0)[world.val[1] == 0].any()


class Collecting(Tiny):
    """Picks up its features with a hook of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.second.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.features = output

    def forward(self, x: Tensor) -> Tensor:
        self.second(self.conv(x).relu())
        return self.fc(self.features.relu().mean((2, 3)))


def test_a_copy_to_measure_has_the_hooks_of_the_network_and_none_of_the_users(world: World) -> None:
    model = Collecting()
    nn.utils.prune.l1_unstructured(model.fc, "weight", 0.5)
    nn.utils.parametrizations.spectral_norm(model.conv)
    with pytest.warns(FutureWarning, match="weight_norm"):
        nn.utils.weight_norm(model.second)
    expected = model.eval()(world.val[0])
    calls: list[str] = []

    def record(*args: Any) -> None:
        calls.append("called")

    for module in (model, model.conv, model.second, model.fc):
        module.register_forward_hook(functools.partial(record, "forward"))
        module.register_forward_pre_hook(record)
        module.register_full_backward_hook(record)
    before = state_of(model)
    copied = copy_module(model, hooks=False)
    copied(world.val[0].clone().requires_grad_(True)).sum().backward()
    assert torch.equal(copied(world.val[0]), expected)
    assert calls == []
    assert_same(before, state_of(model))
    result = salve_audit.audit_model(model, world.train, world.val, **QUICK)
    assert calls == []
    assert any("(the module itself, conv, second ...) are not run" in note for note in result.notes)
    copy_module(model)(world.val[0])
    assert calls  # an edited module is otherwise as the given one


@pytest.mark.parametrize("name", ["half", "object", "lightning", "compiled"])
def test_a_module_is_audited_and_left_as_it_is(name: str, world: World) -> None:
    model = KINDS[name](copy.deepcopy(world.model))
    before, states = state_of(model), random_states()
    result = salve_audit.audit_model(model, world.train, world.val, classes=NAMES, **QUICK)
    assert random_states() == states
    assert_same(before, state_of(model))
    own = world.model(world.val[0]).argmax(1)
    assert result["castle"].accuracy == float((own == world.val[1])[world.val[1] == 0].float().mean())


def test_the_edited_head_is_the_formula(world: World, audited: AuditResult) -> None:
    edited = salve_audit.apply_edit(world.model, audited, "castle", alpha_hat=0.8)
    feature = salve_audit.load_sae(audited).dictionary[audited["castle"].dominant_feature]
    coupling = torch.from_numpy(np.abs(feature))
    expected = world.model.fc.weight * (1 - 0.8 * coupling / coupling.max()).clamp(min=0)
    torch.testing.assert_close(edited.fc.weight, expected, rtol=1e-5, atol=1e-6)
    changed = [name for name, tensor in edited.state_dict().items() if not tensor.equal(world.model.state_dict()[name])]
    assert changed == ["fc.weight"]


def test_an_accuracy_is_reached(world: World, audited: AuditResult) -> None:
    edited = salve_audit.apply_edit(world.model, audited, "fish", to_accuracy=0.5)
    images, labels = world.val
    assert 0.4 <= float((edited(images).argmax(1) == 2)[labels == 2].float().mean()) <= 0.5


def test_a_module_wrapped_by_ddp_is_audited(world: World, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(world.model))
        result = salve_audit.audit_model(wrapped, world.train, world.val, head="fc", **QUICK)
    finally:
        torch.distributed.destroy_process_group()
    assert (result.model.head, result.model.architecture.rpartition(".")[2]) == ("fc", "Tiny")


@pytest.mark.parametrize("n_channels", [1, 5])
def test_images_of_any_number_of_channels_are_measured_and_shown(n_channels: int, tmp_path: Path) -> None:
    model, train, val = make_world(n_channels, n_classes=2)
    quick = {"sae": "linear-l1", "sae_seeds": 1, "use_cache": False, "activation_maximisation": "dominant"}
    result = salve_audit.audit_model(model, train, val, **quick)
    assert (result.evidence.why_absent, result.seeing.why_absent) == ("", "")
    assert any(f"{n_channels} channels" in note for note in result.notes) == (n_channels == 5)
    result.save(tmp_path / "out", format="html")
    assert "live module" in (tmp_path / "out" / "report.html").read_text()


def test_modes_of_the_caller_do_not_reach_into_an_audit(world: World, audited: AuditResult) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            settings = {**QUICK, "sae_seeds": 2, "interventions": ()}
            result = salve_audit.audit_model(world.model, world.train, world.val, classes=NAMES, **settings)
            maps = salve_audit.heat_map(world.model, world.val[0][:1], 0, result=result)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert maps.dtype == torch.float32
    assert result["dog"].alpha_hat == audited["dog"].alpha_hat


class Failing(Tiny):
    """Fails in the middle of an audit."""

    def __init__(self) -> None:
        super().__init__()
        self.n_left = 3

    def forward(self, x: Tensor) -> Tensor:
        self.n_left -= 1
        if self.n_left < 0:
            raise RuntimeError("out of luck")
        return super().forward(x)


def test_an_error_in_the_middle_leaves_everything_as_it_was(world: World) -> None:
    model = Failing().train()
    before, states = state_of(model), random_states()
    with pytest.raises(CheckpointError, match="out of luck"):
        salve_audit.audit_model(model, world.train, world.val, **QUICK)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
        yield world.train[0][:8], world.train[1][:8]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        salve_audit.audit_model(model, batches(), world.val, **QUICK)
    assert random_states() == states
    assert_same(before, state_of(model))


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("model.pt", UsageError, "model: expected a torch.nn.Module, got str"),
        (Tiny, UsageError, "model: is the class Tiny, expected an instance of it"),
        (nn.Flatten(), UsageError, "model: Flatten has no parameters"),
        (Tiny().to("meta"), UsageError, "model: Tiny has no values yet (device meta)"),
        (nn.Conv2d(3, 4, 3), HeadError, "Conv2d: no linear layer makes its output"),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), CheckpointError, "Sequential: a forward pass of 2 x 3 x 16 x"),
        (nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}), CheckpointError, "ModuleDict: has no forward"),
    ],
)
def test_what_cannot_be_audited_is_one_clear_error(model: Any, error: type[SalveError], message: str) -> None:
    images = torch.rand(12, 3, 16, 16), torch.arange(12) % 3
    with pytest.raises(error) as raised:
        salve_audit.audit_model(model, images, **QUICK)
    assert str(raised.value).startswith(message)


def test_another_model_is_refused(world: World, audited: AuditResult) -> None:
    other = Tiny()
    with pytest.raises(SalveError, match="is an audit of other weights"):
        salve_audit.apply_edit(other, audited, "castle", alpha_hat=0.5)
    assert isinstance(salve_audit.apply_edit(other, audited, "castle", alpha_hat=0.5, check=False), Tiny)
    with pytest.raises(DataError, match="the model has outputs 0 to 2"):
        salve_audit.audit_model(other, (world.val[0], world.val[1] + 1), **QUICK)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"class_name": "castel", "alpha_hat": 0.5}, "class: the audit has no class 'castel'"),
        ({"class_name": "castle"}, "edit: give a strength"),
        ({"class_name": "castle", "alpha_hat": "0.5"}, "alpha_hat: expected a number, got str"),
        ({"feature": 99, "alpha_hat": 0.5}, "feature: 99: the audit's features are"),
        ({"concept": "castle"}, "concept: no concept can be removed"),
    ],
)
def test_a_wrong_edit_is_one_clear_error(
    wrong: dict[str, Any], message: str, world: World, audited: AuditResult
) -> None:
    with pytest.raises(SalveError) as raised:
        salve_audit.apply_edit(world.model, audited, **wrong)
    assert str(raised.value).startswith(message)


def test_a_heat_map_points_at_the_square(world: World, saved: Path) -> None:
    images, labels = world.val
    maps = salve_audit.heat_map(
        world.model, images.numpy()[labels.numpy() == 0], class_name="castle", result=saved, method="integrated"
    )
    assert isinstance(maps, np.ndarray)
    inside = np.zeros((16, 16), bool)
    inside[3:11, 3:11] = True
    hottest = maps.reshape(len(maps), -1).argmax(1)
    assert inside.ravel()[hottest].mean() > 0.9
    with pytest.raises(UsageError, match="name a feature or a class_name"):
        salve_audit.heat_map(world.model, images, result=saved)
    with pytest.raises(UsageError, match=r"expected \(n, 3, 16, 16\)"):
        salve_audit.heat_map(world.model, images[..., :8], 0, result=saved)
