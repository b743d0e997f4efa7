"""Settings of a network that leave no trace in its weights: the epsilon of norms, torchvision's rescaling of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.formats.processor import FLIP
from salve_audit.inputs.model.formats.transformers_folder import HubClassifier
from salve_audit.inputs.model.inference.measure import TORCHVISION
from salve_audit.inputs.model.network import Network
from salve_audit.inputs.model.settings import is_said
from salve_audit.inputs.model.weights import Checkpoint
from salve_audit.results.decisions import Decision

BATCH_NORMS, LAYER_NORMS = (nn.modules.batchnorm._BatchNorm,), (nn.LayerNorm,)
NORMS = {"bn_eps": BATCH_NORMS, "layer_norm_eps": LAYER_NORMS}
TENSORFLOW_EPS = 1e-3  # of timm's --bn-tf
RESCALING = (f"{TORCHVISION}googlenet", f"{TORCHVISION}inception_v3")
LIKE_RESCALING = "inception_v3"  # timm's, of which torchvision's own files have the tensors
HALF = 0.5


def rescaling_kwargs(checkpoint: Checkpoint, name: str) -> tuple[dict[str, Any], tuple[Decision, ...]]:
    """``transform_input`` for torchvision's networks that have it, and the decision.

    torchvision sets it when it builds them with its weights, which nearly all fine-tuned networks begin with.
    """
    if name not in RESCALING:
        return {}, ()
    beside, own = checkpoint.sidecar.transform_input, checkpoint.args.get("transform_input")
    what = "transform_input"
    if beside is not None:
        return {what: beside}, (Decision(what, str(beside), checkpoint.sidecar.name),)
    if isinstance(own, bool):
        return {what: own}, (Decision(what, str(own), "checkpoint"),)
    why = f"torchvision builds {name.removeprefix(TORCHVISION)} so with its weights: images are rescaled in the network"
    conflict = "one that was built without them has False, which the JSON file beside the checkpoint may say"
    return {what: True}, (Decision(what, "True", why, conflict),)


def decide_unlike_torchvision(architecture: str, mean: tuple[float, ...]) -> tuple[Decision, ...]:
    """The decision about timm's Inception v3, whose weights torchvision's has too, with rescaling."""
    if architecture.partition(".")[0] != LIKE_RESCALING or all(abs(value - HALF) < 1e-6 for value in mean):
        return ()
    conflict = "torchvision's own network has it with its weights: then mean and std of 0.5 are the right ones here"
    return (Decision("transform_input", "False", "timm's network has none", conflict),)


def apply_epsilons(network: Network, args: Mapping[str, Any]) -> tuple[Network, tuple[Decision, ...]]:
    """The network with the epsilons that the checkpoint's settings say, and the decisions."""
    decisions, key = [], {}
    wanted = {name: args[name] for name in NORMS if is_said(args.get(name))}
    if args.get("bn_tf") is True:
        wanted.setdefault("bn_eps", TENSORFLOW_EPS)
    for name, eps in wanted.items():
        norms = [module for module in network.model.modules() if isinstance(module, NORMS[name])]
        changed = [module for module in norms if module.eps != float(eps)]
        for module in changed:
            module.eps = float(eps)  # type: ignore[assignment]
        if changed:
            key[name] = float(eps)
            words = "batch" if name == "bn_eps" else "layer"
            decisions.append(Decision(name, f"{float(eps):g} in {len(changed)} {words} norms", "checkpoint"))
    if not key:
        return network, ()
    return replace(network, build_key=json.dumps({"build": network.build_key, **key})), tuple(decisions)


def decide_flip(checkpoint: Checkpoint, network: Network) -> tuple[Decision, ...]:
    """The decision about an image processor that gives blue first.

    Raises:
        CheckpointError: the network was not built so that it could be given its images so.
    """
    if not checkpoint.is_flipped:
        return ()
    why = f"{FLIP} of its image processor"
    if isinstance(network.model, HubClassifier):
        return (Decision("channel order", "blue first", why),)
    if network.trusted_code:
        conflict = "blue first is asked for: the file named by --arch has to turn the channels around"
        return (Decision("channel order", "red first", why, conflict),)
    hint = "--arch FILE.py:FUNCTION can turn the channels around before the network"
    raise CheckpointError(str(checkpoint.path), f"takes images with blue first ({why}), which is not done", hint=hint)
