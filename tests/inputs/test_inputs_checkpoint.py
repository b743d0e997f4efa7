"""Checkpoint files: the real ones, and every way one can be bad."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from pathlib import Path

import pytest
import timm
import torch

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.checkpoint import load_classifier

pytestmark = pytest.mark.slow

RESNET20 = Path(__file__).resolve().parents[1] / "models" / "resnet20.py"
TRUST = "--trust-model runs the code in it, if you know who made it; or "
RESAVE = "save it again as {'arch': NAME, 'state_dict': model.state_dict(), 'args': {...}} with plain values"


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def message_of(path: Path, arch: str | None = None) -> tuple[str, str | None]:
    """Message without the path, and the hint, of the error that loading must raise."""
    with pytest.raises(CheckpointError) as caught:
        load_classifier(path, arch)
    text = str(caught.value)
    assert text.startswith(f"{path}: "), text
    assert "\n" not in text
    return text.removeprefix(f"{path}: "), caught.value.hint


@pytest.mark.shared_data
def test_reads_the_timm_checkpoint(shared_data: Path) -> None:
    classifier = load_classifier(shared_data / "resnet18_cifar10_64.pt")
    assert (classifier.architecture, classifier.format) == ("resnet18", "timm checkpoint")
    assert (classifier.head_name, classifier.n_outputs) == ("fc", 10)
    assert classifier.transform.input_size == (3, 64, 64)
    assert classifier.transform.source == "checkpoint"
    assert not classifier.trusted_code
    assert classifier.notes == ()
    stored = torch.load(classifier.path, weights_only=True)["state_dict"]
    own = classifier.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in stored.items())
    assert not classifier.model.training
    assert not any(parameter.requires_grad for parameter in classifier.model.parameters())
    assert sum(parameter.numel() for parameter in classifier.model.parameters()) == 11_181_642


@pytest.mark.shared_data
def test_reads_the_vit_with_its_model_kwargs(shared_data: Path) -> None:
    classifier = load_classifier(shared_data / "vit_cifar10_32.pt")
    assert (classifier.head_name, classifier.transform.input_size) == ("head", (3, 32, 32))
    assert len(classifier.model.blocks) == 6


@pytest.mark.shared_data
def test_reads_the_legacy_resnet20_with_the_users_class(shared_data: Path) -> None:
    classifier = load_classifier(shared_data / "resnet20-12fca82f.th", f"{RESNET20}:resnet20")
    assert classifier.trusted_code
    assert (classifier.format, classifier.head_name) == ("state_dict in a dictionary", "linear")
    assert classifier.notes[0] == "the prefix 'module.' was stripped from the weights' names"
    assert classifier.transform.source == "resnet20.py"
    assert next(classifier.model.parameters()).device.type == "cpu"
    assert sum(parameter.numel() for parameter in classifier.model.parameters()) == 269_722


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.model."]
)
def test_strips_prefixes_however_stacked(prefix: str, save, tiny_state, tiny_arch) -> None:
    path = save({prefix + key: value for key, value in tiny_state.items()})
    loaded = load_classifier(path, tiny_arch).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in tiny_state.items())


def test_keeps_a_part_of_the_network_that_is_called_model(save, tiny_arch, tmp_path: Path) -> None:
    file = tmp_path / "wrapped.py"
    file.write_text(
        "from torch import nn\n"
        "class Wrapped(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))\n"
        "    def forward(self, x):\n"
        "        return self.model(x)\n"
        "def build():\n"
        "    return Wrapped()\n"
        "input_size = (3, 8, 8)\n"
    )
    path = save({"module.model.1.weight": torch.ones(2, 192), "module.model.1.bias": torch.zeros(2)})
    classifier = load_classifier(path, f"{file}:build")
    assert classifier.head_name == "model.1"
    assert classifier.notes[0] == "the prefix 'module.' was stripped from the weights' names"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_casts_weights_to_float32_and_says_so(dtype: torch.dtype, save, tiny_state, tiny_arch) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tiny_state.items()}
    classifier = load_classifier(save(state), tiny_arch)
    assert {v.dtype for v in classifier.model.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(classifier.head.weight, state["head.weight"].float())
    assert f"weights were cast from {str(dtype).removeprefix('torch.')} to float32" in classifier.notes


def test_fills_counters_that_old_checkpoints_lack(save, tiny_state, tiny_arch) -> None:
    state = {key: value for key, value in tiny_state.items() if not key.endswith("num_batches_tracked")}
    assert len(state) < len(tiny_state)
    assert load_classifier(save(state), tiny_arch).n_outputs == 3


@pytest.mark.parametrize("n", [2, 7])
def test_reads_the_number_of_classes_from_the_weights(n: int, save, tiny_arch) -> None:
    state = timm.create_model("resnet18", num_classes=n).state_dict()
    assert load_classifier(save(state), "resnet18").n_outputs == n


def test_reads_arguments_of_timms_train_script(save) -> None:
    model = timm.create_model("resnet18", num_classes=4, in_chans=1)
    args = argparse.Namespace(model="resnet18", num_classes=None, img_size=40, mean=[0.5], std=[0.25], in_chans=1)
    path = save({"epoch": 3, "arch": "resnet18", "state_dict": model.state_dict(), "args": args})
    spec = load_classifier(path).transform
    assert (spec.input_size, spec.mean, spec.std) == ((1, 40, 40), (0.5,), (0.25,))
    assert spec.source == "input size, mean, std: checkpoint; interpolation, crop: architecture default (timm)"


@pytest.mark.parametrize(
    ("holder", "names"),
    [
        ("class_names", ["b", "a", "c"]),
        ("class_to_idx", {"a": 1, "b": 0, "c": 2}),
        ("args", {"classes": ["b", "a", "c"]}),
    ],
)
def test_finds_the_checkpoints_class_names(holder: str, names: object, save, tiny_state, tiny_arch) -> None:
    classifier = load_classifier(save({"state_dict": tiny_state, holder: names}), tiny_arch)
    assert classifier.class_names == ("b", "a", "c")


def test_leaves_the_random_state_alone(save, tiny_state, tiny_arch) -> None:
    path = save(tiny_state)
    before = torch.random.get_rng_state()
    load_classifier(path, tiny_arch)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_such_file(tmp_path: Path) -> None:
    assert message_of(tmp_path / "none.pt") == ("no such file", None)


def test_a_folder(tmp_path: Path) -> None:
    hint = "expected a checkpoint file, or a folder with config.json and model.safetensors or pytorch_model.bin"
    assert message_of(tmp_path) == ("is a folder without weights", hint)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    assert message_of(tmp_path / "empty.pt") == ("the file is empty", None)


@pytest.mark.parametrize("content", [b"hello world\nfoo", bytes(range(256)) * 4])
def test_other_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    assert message_of(path) == ("not a checkpoint", "expected a file written by torch.save")


def test_an_image_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "other.pt").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert message_of(tmp_path / "other.pt")[0] == "is a PNG image, no checkpoint of PyTorch"


def test_a_truncated_archive(save, tiny_state) -> None:
    path = save(tiny_state)
    path.write_bytes(path.read_bytes()[:-1000])
    assert message_of(path) == ("is a damaged checkpoint or another zip archive", "copy it again")


def test_a_truncated_legacy_file(save, tiny_state) -> None:
    path = save(tiny_state, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-100])
    assert message_of(path) == ("is a damaged checkpoint: its end is missing", "copy it again")


def test_another_zip_archive(tmp_path: Path) -> None:
    path = tmp_path / "images.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    assert message_of(path)[0] == "is a damaged checkpoint or another zip archive"


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_code_in_a_checkpoint_is_refused_and_never_run(plain_pickle: bool, save, tmp_path: Path) -> None:
    verification = tmp_path / "was_run"
    content = {"state_dict": {"weight": torch.ones(1)}, "x": Marker(verification)}
    path = save(content)
    if plain_pickle:
        path.write_bytes(pickle.dumps({"x": Marker(verification)}, protocol=2))
    message, hint = message_of(path, "resnet18")
    assert not verification.exists()
    if plain_pickle:
        assert message.startswith("needs the class ")
        assert message.endswith(" to be read, and no code of a checkpoint is run")
        assert hint == TRUST + RESAVE
    else:  # the code lies beside the weights, and is left out
        assert message.startswith("its keys do not fit resnet18")


def test_a_whole_pickled_module_is_refused(save) -> None:
    message, hint = message_of(save(torch.nn.Linear(2, 2)))
    assert message == "is a whole pickled network (torch.nn.modules.linear.Linear), which is code; refused"
    assert hint == TRUST + RESAVE


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    assert message_of(path) == ("is a TorchScript archive, which is code; refused", TRUST + RESAVE)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (3, "holds one int, expected a state_dict"),
        ({"epoch": 3, "loss": 0.1}, "no state_dict inside, the keys are: epoch, loss"),
        ({}, "no state_dict inside, the keys are: none"),
        ({"state_dict": {}}, "its state_dict is empty"),
        ({"state_dict": {"a": torch.ones(1), "b": 3}}, "'b' in its state_dict is of type int, no tensor"),
    ],
)
def test_no_weights_inside(content: object, why: str, save) -> None:
    assert message_of(save(content))[0] == why


def test_no_architecture(save, tiny_state) -> None:
    message, hint = message_of(save(tiny_state))
    assert message == "does not say its architecture, and its 9 tensors fit none of timm or torchvision"
    assert hint == (
        "say it with --arch NAME (timm) or --arch FILE.py:FUNCTION; "
        "no known architecture is near; --arch FILE.py:FUNCTION runs your own class"
    )


def test_unknown_architecture(save, tiny_state) -> None:
    message, hint = message_of(save(tiny_state), "resnet81")
    assert message == "unknown architecture 'resnet81'"
    assert hint is not None
    assert hint.startswith("nearest timm names: resnet")


def test_nothing_like_an_architecture(save, tiny_state) -> None:
    assert message_of(save(tiny_state), "@@") == (
        "unknown architecture '@@'",
        "--arch FILE.py:FUNCTION runs your own class",
    )


@pytest.mark.parametrize("name", ["hf-hub:someone/resnet18", "local-dir:/tmp", "FILE:x"])
def test_a_checkpoint_cannot_name_what_to_fetch(name: str, save, tiny_state) -> None:
    assert message_of(save({"arch": name, "state_dict": tiny_state}))[0] == f"unknown architecture {name!r}"


def test_a_checkpoint_cannot_name_a_file_to_run(save, tiny_state, tmp_path: Path) -> None:
    file = tmp_path / "evil.py"
    file.write_text(f"open({str(tmp_path / 'was_run')!r}, 'w').close()\ndef build():\n    pass\n")
    path = save({"arch": f"{file}:build", "state_dict": tiny_state})
    assert message_of(path)[0] == f"unknown architecture '{file}:build'"
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("key", ["pretrained", "checkpoint_path", "pretrained_cfg"])
def test_a_checkpoint_cannot_ask_timm_to_fetch(key: str, save, tiny_state) -> None:
    path = save({"arch": "resnet18", "state_dict": tiny_state, "args": {"model_kwargs": {key: "x"}}})
    assert message_of(path)[0] == f"its model_kwargs may not set {key!r}"


def test_model_kwargs_that_are_none(save, tiny_state) -> None:
    path = save({"arch": "resnet18", "state_dict": tiny_state, "args": {"model_kwargs": "depth=3"}})
    assert message_of(path)[0] == "its model_kwargs are of type str, no mapping"


def test_settings_timm_cannot_build(save, tiny_state) -> None:
    path = save({"arch": "resnet18", "state_dict": tiny_state, "args": {"model_kwargs": {"colour": "red"}}})
    message = message_of(path)[0]
    assert message.startswith("timm cannot build 'resnet18' with the checkpoint's settings (TypeError: ")


def test_keys_of_another_architecture_name_the_right_one(save) -> None:
    path = save(timm.create_model("resnet34", num_classes=3).state_dict())
    message, hint = message_of(path, "resnet18")
    assert message == "its keys do not fit resnet18: unexpected 'layer1.2.conv1.weight' (and 79 more)"
    assert hint == "its keys are those of timm's 'resnet34': --arch resnet34"


def test_first_missing_unexpected_and_misshaped_keys(save) -> None:
    state = timm.create_model("resnet18", num_classes=3).state_dict()
    state["extra.weight"] = state.pop("layer1.0.conv1.weight")
    state["conv1.weight"] = torch.ones(64, 3, 3, 3)
    message, hint = message_of(save(state), "resnet18")
    assert message == (
        "its keys do not fit resnet18: missing 'layer1.0.conv1.weight'; unexpected 'extra.weight'; "
        "'conv1.weight' is (64, 3, 3, 3), expected (64, 3, 7, 7)"
    )
    assert (hint or "").startswith("all but this is resnet18: 'conv1.weight' is 64x3x3x3, not 64x3x7x7, ")


def test_keys_that_fit_nothing_known(save, tiny_state, tiny_arch) -> None:
    message, hint = message_of(save({f"strange_{key}": value for key, value in tiny_state.items()}), tiny_arch)
    assert message.startswith(f"its keys do not fit {tiny_arch}: missing 'conv.weight' (and ")
    assert hint == "no known architecture is near; --arch FILE.py:FUNCTION runs your own class"


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "infinite values")])
def test_weights_that_are_not_finite(value: float, kind: str, save, tiny_state, tiny_arch) -> None:
    tiny_state["head.weight"][1, 2] = value
    message = message_of(save(tiny_state), tiny_arch)
    assert message == (f"the tensor 'head.weight' has {kind}", "training has diverged?")


@pytest.mark.parametrize(
    ("source", "function", "error", "hint"),
    [
        ("def build(:", "build", "{file}: importing it failed (SyntaxError: invalid syntax (model.py, line 1))", None),
        ("raise SystemExit(3)", "build", "{file}: importing it failed (SystemExit: 3)", None),
        ("def build():\n    pass", "biuld", "{file}: has no function 'biuld'", "nearest names there: build"),
        ("build = 3", "build", "{file}: has no function 'build'", "nearest names there: build"),
        ("def build():\n    return 3", "build", "{file}:build: returned int, expected a torch.nn.Module", None),
        ("def build():\n    {}[1]", "build", "{file}:build: calling it failed (KeyError: 1)", None),
    ],
)  # fmt: skip
def test_bad_files_of_the_user(source, function, error, hint, save, tiny_state, tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(source)
    with pytest.raises(CheckpointError) as caught:
        load_classifier(save(tiny_state), f"{file}:{function}")
    assert str(caught.value) == error.format(file=file)
    assert caught.value.hint == hint


def test_the_users_file_is_missing(save, tiny_state, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_classifier(save(tiny_state), f"{tmp_path / 'none.py'}:build")
    assert str(caught.value) == f"{tmp_path / 'none.py'}: no such file"


def test_the_users_file_may_import_its_neighbours(save, tiny_state, tmp_path: Path, tiny_arch) -> None:
    (tmp_path / "tiny_neighbour.py").write_text(Path(tiny_arch.rpartition(":")[0]).read_text())
    (tmp_path / "model.py").write_text(
        "from tiny_neighbour import tiny\ndef build(num_classes):\n    return tiny(num_classes)\n"
    )
    assert load_classifier(save(tiny_state), f"{tmp_path / 'model.py'}:build").n_outputs == 3


def test_a_dictionary_in_itself(save) -> None:
    content = {"epoch": 1}
    content["model"] = content
    assert message_of(save(content))[0] == "no state_dict inside, the keys are: epoch, model"


def test_a_dictionary_that_unfolds_without_end(save) -> None:
    content: dict = {"loss": 0.1}
    for _ in range(12):
        content = {str(index): content for index in range(10)}  # 10^12 ways down
    assert message_of(save(content))[0] == "no state_dict inside, the keys are: 0, 1, 2, 3, 4"


@pytest.mark.parametrize(
    "state",
    [
        {"": torch.ones(1)},
        {"." * 10_000: torch.ones(1), "..": torch.ones(2)},
        {"a": torch.ones(())},
        {"a.weight": torch.ones(0, 3)},
        {"vit.encoder.layer.0.attention.attention.query.weight": torch.ones(1)},
        {"deit.embeddings.distillation_token": torch.ones(()), "deit.embeddings.position_embeddings": torch.ones(1)},
        {"convnextv2.embeddings.patch_embeddings.weight": torch.ones(())},
    ],
)
def test_tensors_of_no_network(state: dict, save) -> None:
    n = f"{len(state)} tensors"
    assert message_of(save(state))[0] == f"does not say its architecture, and its {n} fit none of timm or torchvision"


def test_names_that_are_none(save) -> None:
    assert message_of(save({"model": {1: torch.ones(2)}}))[0] == "1 in its state_dict is of type int, no name"
