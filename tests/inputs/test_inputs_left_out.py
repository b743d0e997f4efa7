"""Objects beside the weights cost nobody the file and run nothing; what is no network is called what it is."""

from __future__ import annotations

import collections
import datetime
import enum
import functools
import json
import pathlib
import pickle
import random
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from salve_audit.errors import CheckpointError, DataError
from salve_audit.inputs.data.datasets import load_images
from salve_audit.inputs.foreign import describe_placeholder
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.formats.left_out import LeftOut, is_refused, load_around_objects
from salve_audit.inputs.model.formats.sniff import sniff


class Colour(enum.Enum):
    RED = "red"


class OwnList(list):
    """A list of a class that is not here."""


class Settings:
    """Attributes of a class that is not here."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


OBJECTS: dict[str, Any] = {
    "path": pathlib.PurePosixPath("/data"),
    "partial": functools.partial(torch.optim.SGD, lr=0.1),
    "array": np.arange(6.0).reshape(2, 3),
    "random state": random.getstate(),
    "numpy random state": np.random.RandomState(0).get_state(),
    "generator": np.random.default_rng(0),
    "defaultdict": collections.defaultdict(list, {"loss": [1.0]}),
    "deque": collections.deque([1, 2]),
    "datetime": datetime.datetime(2024, 1, 1),
    "timedelta": datetime.timedelta(seconds=3),
    "enum": Colour.RED,
    "list of a class": OwnList([1, 2]),
    "object": Settings(a=1),
    "namespace": types.SimpleNamespace(lr=0.1),
    "function": np.mean,
    "class": torch.nn.ReLU,
    "network": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()),
    "complex": 1 + 2j,
    "slice": slice(1, 2),
    "set": {1, 2},
}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("place", ["hyper_parameters", "history"])
@pytest.mark.parametrize("is_new", [True, False])
def test_an_object_beside_the_weights(name: str, place: str, is_new: bool, save, tiny_state, tiny_arch) -> None:
    content = {"state_dict": tiny_state, place: {"x": OBJECTS[name]}}
    path = save(content, _use_new_zipfile_serialization=is_new)
    loaded = load_classifier(path, tiny_arch).model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in tiny_state.items())


def test_what_was_left_out_is_named(save, tiny_state, tiny_arch) -> None:
    classifier = load_classifier(save({"state_dict": tiny_state, "when": OBJECTS["datetime"]}), tiny_arch)
    note = "objects beside the weights were left out unread, no code of theirs was run: datetime.datetime"
    assert note in classifier.notes


def test_settings_of_a_class_that_is_not_here_are_read(save, tiny_state, tiny_arch) -> None:
    hyper_parameters = Settings(image_size=24, interpolation=Settings())
    classifier = load_classifier(save({"state_dict": tiny_state, "hyper_parameters": hyper_parameters}), tiny_arch)
    assert classifier.transform.input_size == (3, 24, 24)


def test_weights_of_a_network_in_the_settings_are_not_taken_for_the_networks(save, tiny_state, tiny_arch) -> None:
    other = {"hyper_parameters": {"net": torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(40)])}}
    assert load_classifier(save({**other, "state_dict": tiny_state}), tiny_arch).weights_key == "state_dict"


class Attack:
    def __init__(self, name: str, *arguments: Any) -> None:
        self.name, self.arguments = name, arguments

    def __reduce__(self) -> Any:
        module, _, attribute = self.name.rpartition(".")
        return getattr(__import__(module), attribute), self.arguments


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("os.mkdir", ("MARK",)), ("builtins.exec", ("open('MARK', 'w')",)), ("shutil.copytree", (".", "MARK"))],
)
def test_what_reads_writes_or_runs_is_refused_beside_weights_too(
    name: str, arguments: tuple, save, tiny_state, tiny_arch, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    given = [text.replace("MARK", str(mark)) for text in arguments]
    path = save({"state_dict": tiny_state, "x": Attack(name, *given)}, pickle_protocol=2)
    with pytest.raises(CheckpointError, match="no code of a checkpoint is run"):
        load_classifier(path, tiny_arch)
    assert not mark.exists()


def test_a_constructor_that_would_act_is_not_called(save, tmp_path: Path) -> None:
    """Nothing of the file's own classes runs, whatever they are called."""
    path = save({"state_dict": {"w": torch.ones(2)}, "x": Attack("collections.namedtuple", "A", "b")})
    content, left_out = load_around_objects(path, sniff(path))
    assert left_out == ("collections.namedtuple",)
    assert isinstance(content["x"], LeftOut)
    assert content["x"].arguments == ("A", "b")


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("os.system", True), ("posix.system", True), ("subprocess.Popen", True), ("builtins.eval", True),
        ("__builtin__.exec", True), ("torch.serialization.os.mkdir", True), ("torch.load", True),
        ("importlib.import_module", True), ("pathlib.PosixPath", False), ("builtins.slice", False),
        ("numpy.random._pickle.__generator_ctor", False), ("my.os_tools.Thing", False),
    ],
)  # fmt: skip
def test_names_that_have_no_business_in_a_checkpoint(name: str, refused: bool) -> None:
    assert is_refused(name) is refused


def test_a_memo_index_of_any_size_takes_no_memory(tmp_path: Path) -> None:
    """A pickle of a few bytes that stores under the index 4,000,000,000."""
    path = tmp_path / "m.pt"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\xee.")
    with pytest.raises(CheckpointError):
        load_classifier(path)


POINTERS = {
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "git-annex": b"/annex/objects/SHA256E-s9--00.pt\n",
    "DVC": b"outs:\n- md5: 00\n  size: 9\n  path: m.pt\n",
    "web page": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
    "storage server": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
}


@pytest.mark.parametrize("kind", POINTERS)
@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "folder"])
def test_files_that_stand_for_others_are_called_so(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "config.json").write_text("{}")
    (path / "model.safetensors" if name == "folder" else path).write_bytes(POINTERS[kind])
    with pytest.raises(CheckpointError, match=kind):
        load_classifier(path)


@pytest.mark.parametrize("kind", POINTERS)
def test_images_and_tables_that_stand_for_others(kind: str, tmp_path: Path) -> None:
    from image_files import load_image

    for name in ("a.png", "a.csv", "a.zip"):
        (tmp_path / name).write_bytes(POINTERS[kind])
    with pytest.raises(DataError, match=kind):
        load_image(tmp_path / "a.png")
    for name in ("a.csv", "a.zip"):
        with pytest.raises(DataError, match=kind):
            load_images(tmp_path / name, seed=0)


@pytest.mark.parametrize("head", [b"\x89PNG\r\n", b"path,label\n", b"outside of it", b""])
def test_other_files_stand_for_themselves(head: bytes) -> None:
    assert describe_placeholder(head) is None


def message(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_classifier(path)
    return f"{caught.value}\n{caught.value.hint}"


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    save_file({"base_model.model.q.lora_A.weight": torch.ones(2, 4)}, tmp_path / "adapter_model.safetensors")
    assert "holds an adapter" in message(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LOHA", "base_model_name_or_path": "me/vit"})
    )
    said = message(tmp_path)
    assert "holds an adapter (LOHA) of me/vit, no whole network" in said
    assert "merge_and_unload" in said


@pytest.mark.parametrize("name", ["layer.lora_down.weight", "a.hada_w1_a", "b.lora_B.default.weight"])
def test_adapters_of_other_tools(name: str, save) -> None:
    assert "holds an adapter" in message(save({"state_dict": {name: torch.ones(2, 2), "x.weight": torch.ones(2)}}))


def test_quantised_networks(save, tmp_path: Path) -> None:
    packed = {"fc._packed_params.dtype": torch.qint8, "fc.scale": torch.tensor(1.0), "conv.weight": torch.ones(2, 2)}
    assert "holds a quantised network" in message(save({"state_dict": packed}))
    assert "holds a quantised network" in message(save({"l.qweight": torch.ones(2, 2, dtype=torch.int32)}))
    small = torch.ones(2, 2).to(torch.float8_e4m3fn)
    assert "holds a quantised network" in message(save({"w": small, "b": torch.ones(2)}))
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file({"w": torch.ones(2)}, folder / "model.safetensors")
    config = {"model_type": "vit", "quantization_config": {"quant_method": "bitsandbytes"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "holds a quantised network (bitsandbytes)" in message(folder)


def test_a_detector(save) -> None:
    names = ("backbone.conv.weight", "rpn.head.conv.weight", "roi_heads.box_head.fc6.weight")
    assert "holds an object detector" in message(save({name: torch.ones(2, 2) for name in names}))


@pytest.mark.parametrize(("name", "head"), [("test_resnet", "fc"), ("test_vit", "head"), ("test_convnext", "head.fc")])
def test_a_backbone_without_its_final_layer(name: str, head: str, save) -> None:
    state = {
        key: value for key, value in timm.create_model(name).state_dict().items() if not key.startswith(f"{head}.")
    }
    said = message(save(state))
    assert "has no final layer" in said
    assert f"'{head}.weight'" in said


def test_a_pickle_of_a_plain_list_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(pickle.dumps([1, 2], 2))
    with pytest.raises(CheckpointError):
        load_classifier(tmp_path / "m.pt")
