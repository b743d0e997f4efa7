"""Sixty architectures of as many families, named by nothing but their tensors, through the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from salve_audit.cli.app import run
from salve_audit.inputs import load_classifier

N_CLASSES = 7
FAMILIES = (
    "lcnet_035", "mobilenetv2_035", "starnet_s050", "dla46x_c", "mobilevit_xxs", "repghostnet_050",
    "edgenext_xx_small", "ghostnet_050", "ese_vovnet19b_slim_dw", "convnext_zepto_rms", "efficientvit_b0",
    "efficientvit_m0", "regnetx_002", "cspnext_tiny", "iformer_t", "fasternet_t0", "cs3darknet_focus_s",
    "lcnetv2_small", "xcit_nano_12_p8_224", "swiftformer_xs", "inception_next_atto", "efficientformerv2_s0",
    "fastvit_t8", "pvt_v2_b0", "rexnet_100", "mobileone_s1", "hardcorenas_b", "hgnetv2_b0", "pit_ti_224",
    "repvit_m1", "resnet10t", "cpubone_nano", "tiny_vit_5m_224", "coat_tiny", "convit_tiny", "deit_tiny_patch16_224",
    "vit_tiny_patch16_224", "efficientvim_m1", "gmlp_ti16_224", "shvit_s1", "mambaout_femto", "crossvit_tiny_240",
    "densenet121", "levit_128s", "maxvit_pico_rw_256", "halonet_h1", "nf_regnet_b0", "dpn48b", "resnest14d",
    "visformer_tiny", "csatv2", "resnetv2_18", "legacy_seresnet18", "poolformerv2_s12", "efficientformer_l1",
    "skresnet18", "gcvit_xxtiny", "mixnet_s", "tinynet_e", "resnetblur18",
)  # fmt: skip
Inspect = Callable[..., dict[str, str]]


@pytest.fixture
def inspect(capfd: pytest.CaptureFixture[str]) -> Inspect:
    """``inspect(path, ...)``: what ``salve-audit inspect`` prints, by its first column."""

    def call(*arguments: object) -> dict[str, str]:
        capfd.readouterr()
        code = run(["inspect", *map(str, arguments)])
        captured = capfd.readouterr()
        assert code == 0, captured.err
        return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in captured.out.splitlines())

    return call


def draw(name: str, **kwargs: object) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=N_CLASSES, **kwargs).eval()


def save_bare(model: torch.nn.Module, path: Path) -> Path:
    """Tensors and nothing else, under a file name that says nothing."""
    torch.save(dict(model.state_dict()), path)
    return path


def named(shown: dict[str, str]) -> set[str]:
    """The architecture shown, and those said to have the same tensors."""
    also = [re.findall(r"also fit (.*); if", text)[0] for text in shown.values() if "also fit" in text]
    return {shown["architecture"], *(one for text in also for one in text.split(", "))}


def test_there_are_sixty_of_different_families() -> None:
    assert len(FAMILIES) == len(set(FAMILIES)) == 60


@pytest.mark.parametrize("name", FAMILIES)
def test_names_the_architecture_of_bare_weights(name: str, tmp_path: Path, inspect: Inspect) -> None:
    model = draw(name)
    shown = inspect(save_bare(model, tmp_path / "model.pt"))
    assert name in named(shown)
    heads = timm.get_pretrained_cfg(name).classifier
    heads = (heads,) if isinstance(heads, str) else heads
    assert all(f"{one}: " in shown["head"] for one in heads)
    assert re.search(rf"(out_features=|Conv2d\(\d+, ){N_CLASSES},", shown["head"]), shown["head"]
