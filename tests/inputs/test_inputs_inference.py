"""Sixty architectures of as many families, named by nothing but their tensors, through the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from salve_audit.cli.app import run
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.formats.nesting import Weights
from salve_audit.inputs.model.identify import list_candidates
from salve_audit.inputs.model.inference.build import build_index, write_index
from salve_audit.inputs.model.inference.index import FILE, cached_path, decode_index, encode_index, load_index
from salve_audit.inputs.model.inference.measure import measure_all
from salve_audit.inputs.model.weights import Checkpoint

pytestmark = pytest.mark.slow

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
    return {shown["architecture"], *(word for text in also for word in text.split(", "))}


def test_there_are_sixty_of_different_families() -> None:
    assert len(FAMILIES) == len(set(FAMILIES)) == 60


@pytest.mark.parametrize("name", FAMILIES)
def test_names_the_architecture_of_bare_weights(name: str, tmp_path: Path, inspect: Inspect) -> None:
    model = draw(name)
    shown = inspect(save_bare(model, tmp_path / "model.pt"))
    assert name in named(shown)
    heads = timm.get_pretrained_cfg(name).classifier
    heads = (heads,) if isinstance(heads, str) else heads
    assert all(f"{name}: " in shown["head"] for name in heads)
    assert re.search(rf"(out_features=|Conv2d\(\d+, ){N_CLASSES},", shown["head"]), shown["head"]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "levit_128s", "torchvision:mobilenet_v3_small"])
def test_the_shipped_index_says_what_measuring_says(name: str) -> None:
    shipped = [entry for entry in load_index().entries if entry.name == name]
    assert shipped == measure_all(name)
    assert shipped


def test_the_shipped_index_is_small_and_of_the_pinned_timm() -> None:
    constraints = (Path(__file__).resolve().parents[2] / "constraints.txt").read_text()
    index = decode_index(FILE.read_bytes())
    assert f"timm=={index.version}" in constraints.splitlines()
    assert FILE.stat().st_size <= 1 << 20
    assert len({entry.name for entry in index.entries}) > 1400
    assert decode_index(encode_index(index)) == index


@pytest.mark.parametrize("size", [16, 48, 96, 224, 400, 1024])
def test_the_size_is_solved_from_the_tokens(size: int, tmp_path: Path, inspect: Inspect) -> None:
    shown = inspect(save_bare(draw("test_vit", img_size=size), tmp_path / "model.pt"))
    assert shown["architecture"] == "test_vit"
    assert shown["input"].startswith(f"3x{size}x{size}, ")


def test_another_timm_is_checked_by_building_and_said(
    tmp_path: Path, inspect: Inspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_bare(draw("test_resnet"), tmp_path / "model.pt")
    monkeypatch.setattr("timm.__version__", "9.9.9")
    shown = inspect(path)
    assert shown["architecture"] == "test_resnet"
    said = f"the index of architectures is that of timm {load_index().version}, 9.9.9 is installed"
    assert said in shown.values()


def test_an_index_in_the_users_cache_is_used_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_index(build_index(["test_resnet"]), cached_path())
    assert [entry.name for entry in load_index().entries] == ["test_resnet"]
    cached_path().write_bytes(cached_path().read_bytes()[:100])
    assert len(load_index().entries) > 1400


def test_lookup_tables_of_older_versions_do_not_matter(tmp_path: Path, inspect: Inspect) -> None:
    """As timm kept them in files once, and Swin's original code does."""
    state = dict(draw("swin_tiny_patch4_window7_224").state_dict())
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    torch.save(state, tmp_path / "model.pt")
    assert inspect(tmp_path / "model.pt")["architecture"] == "swin_tiny_patch4_window7_224"


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "swinv2_tiny_window8_256", "maxvit_pico_rw_256"])
def test_inference_builds_few_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building is what takes time: all else is looked up."""
    with torch.device("meta"):
        size = {"img_size": 384} if name.startswith("vit") else {}
        state = timm.create_model(name, num_classes=N_CLASSES, **size).state_dict()
    checkpoint = Checkpoint(Path("model.pt"), "", "", (Weights("", state),))
    index, built, create = load_index(), [], timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *args, **kwargs: built.append(args) or create(*args, **kwargs))
    candidate = next(list_candidates(checkpoint, index))
    assert candidate.fits[0].n_classes == N_CLASSES
    assert len(built) <= 8, built  # of 1,300


def test_loaded_weights_compute_what_they_did(tmp_path: Path) -> None:
    """Networks are built without drawing their weights; nothing that is not loaded may be missing then."""
    for name in ("test_vit2", "test_efficientnet", "swinv2_cr_tiny_ns_224", "xcit_nano_12_p8_224", "gcvit_xxtiny"):
        model = draw(name)
        images = torch.randn(1, *model.default_cfg["input_size"], generator=torch.Generator().manual_seed(0))
        classifier = load_classifier(save_bare(model, tmp_path / "model.pt"))
        with torch.inference_mode():
            torch.testing.assert_close(classifier.model(images), model(images), msg=name)
