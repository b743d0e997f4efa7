"""How long the stages ahead will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from salve_audit.audit.stage_runner import Stage, StageRunner


def predict_stages(runner: StageRunner, stages: Sequence[Stage[Any]]) -> Mapping[str, float]:
    return {}
