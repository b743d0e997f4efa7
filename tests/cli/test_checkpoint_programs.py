"""Checkpoints that are programs: refused, or run when the user trusts them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_files import QUICK, State, draw, notes, save
from torch import nn

from salve_audit.inputs.model.checkpoint import load_classifier

pytestmark = pytest.mark.slow

TRUST = (
    "hint: --trust-model runs the code in it, if you know who made it; or save it again as "
    "{'arch': NAME, 'state_dict': model.state_dict(), 'args': {...}} with plain values"
)


class Small(nn.Module):
    """A network of the user's own, with a branch that tracing would lose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.conv(x).relu().mean([2, 3])))


def write_program(kind: str, path: Path) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small().eval()
    example = torch.randn(4, 3, 32, 32)
    if kind == "scripted":
        torch.jit.script(model).save(str(path))
    elif kind == "traced":
        torch.jit.trace(model, example).save(str(path))
    elif kind == "exported":
        torch.export.save(torch.export.export(model, (example,)), path)
    elif kind == "exported for any number":
        shapes = ({0: torch.export.Dim("n")},)
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=shapes), path)
    else:
        timm_model = draw("test_resnet")
        torch.save({"model": timm_model} if kind == "pickled in a dictionary" else timm_model, path)
    return model


PROGRAMS = {
    "scripted": ("model.pt", "TorchScript archive", "TorchScript Small"),
    "traced": ("model.pt", "TorchScript archive", "TorchScript Small"),
    "exported": ("model.pt2", "torch.export program", "torch.export program"),
    "exported for any number": ("model.pt2", "torch.export program", "torch.export program"),
    "pickled": ("model.pt", "whole pickled network (timm.models.resnet.ResNet", ""),
    "pickled in a dictionary": ("model.pt", "whole pickled network (timm.models.resnet.ResNet", ""),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs_are_refused_or_trusted(
    kind: str, tmp_path: Path, colour_data: Path, salve: Callable, show: Callable
) -> None:
    file, what, architecture = PROGRAMS[kind]
    path = tmp_path / file
    model = write_program(kind, path)
    done = salve("inspect", path)
    assert done.code == 2
    error, hint = done.err.splitlines()
    assert error.startswith(f"error: {path}: is a {what}")
    assert error.endswith(", which is code; refused")
    assert hint == TRUST
    sidecar = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "class_names": ["blue", "green", "red"]}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    shown = show(path, "--trust-model")
    assert f"code in {file} was run to load it (--trust-model)" in notes(shown)
    assert shown["class names"] == "blue, green, red"
    if architecture:
        assert shown["architecture"] == architecture
        assert shown["head"] == "head: Linear(in_features=8, out_features=3, bias=True)"
        assert shown["parameters"] == f"{sum(p.numel() for p in model.parameters()):,}"
        with torch.inference_mode():
            images = torch.randn(9, 3, 32, 32)
            torch.testing.assert_close(load_classifier(path, trust=True).model(images), model(images))
    done = salve(path, colour_data, "--trust-model", "--out", tmp_path / "out", "--format", "html,json", *QUICK[2:])
    assert done.code == 0, done.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Code named by the user was run to build the model." in page
    assert f"code in {file} was run to load it (--trust-model)" in page
    result = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert result["provenance"]["trusted_code"] is True
    assert result["model"]["n_classes"] == 3


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_a_program_without_a_linear_end(tmp_path: Path, salve: Callable) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten())).save(str(path))
    done = salve("inspect", path, "--trust-model")
    assert done.code == 2
    assert done.err.splitlines() == [
        f"error: {path}: its graph ends with aten::flatten, expected a linear layer",
        "hint: export the network so that it returns the output of its final linear layer",
    ]


def test_trust_is_not_used_where_it_is_not_needed(state: State, tmp_path: Path, show: Callable) -> None:
    shown = show(save(state, tmp_path / "model.pt"), "--trust-model")
    assert not any("was run" in text for text in notes(shown))
