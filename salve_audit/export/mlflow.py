"""A run in the folders that MLflow's file store reads: ``mlflow ui --backend-store-uri DIR``. MLflow is not needed.

::

    DIR/<experiment>/meta.yaml
    DIR/<experiment>/<run>/meta.yaml
    DIR/<experiment>/<run>/metrics/<name>      "<milliseconds> <value> <step>"
    DIR/<experiment>/<run>/params/<name>       text
    DIR/<experiment>/<run>/tags/<name>         text
    DIR/<experiment>/<run>/artifacts/          audit.json, report.html, ...

The name of the run's folder is a hash of audit.json: the same audit again replaces its run.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from salve_audit.errors import OutputError
from salve_audit.export.model_card import NAME
from salve_audit.report.numbers import moment
from salve_audit.results import AuditResult
from salve_audit.results.plain_text import plain

EXPERIMENT = "482093751620394857"  # its number, as MLflow's own: any digits
ARTIFACTS = ("audit.json", "report.html", "report.pdf", "samples.parquet", "sae.safetensors", "concepts.safetensors")
LONGEST = 6000  # characters that MLflow takes for the value of a parameter
FINISHED, LOCAL = 3, 4  # status and kind of source


def write_run(result: AuditResult, folder: Path, store: Path) -> Path:
    """Writes the audit in `folder` as a run below `store`, and returns the folder of the run.

    Raises:
        OutputError: `store` cannot be written.
    """
    experiment = store.absolute() / EXPERIMENT
    run_id = hashlib.sha256((folder / "audit.json").read_bytes()).hexdigest()[:32]
    run = experiment / run_id
    began = round(moment(result.created).timestamp() * 1000)
    try:
        experiment.mkdir(parents=True, exist_ok=True)
        if not (experiment / "meta.yaml").exists():
            (experiment / "meta.yaml").write_text(_experiment_meta(experiment, began), encoding="utf-8")
        stage = Path(tempfile.mkdtemp(prefix=".salve-", dir=store))
        try:
            _fill(stage, result, folder, began)
            (stage / "meta.yaml").write_text(_run_meta(run, result, began), encoding="utf-8")
            stage.chmod(0o755)
            shutil.rmtree(run, ignore_errors=True)
            stage.rename(run)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise OutputError(str(store), f"cannot be written ({error.strerror or error})") from error
    return run


def _fill(stage: Path, result: AuditResult, folder: Path, began: int) -> None:
    for kind, values in (("metrics", _metrics(result)), ("params", _params(result)), ("tags", _tags(result))):
        (stage / kind).mkdir()
        for name, value in values.items():
            file = stage / kind / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{began} {value} 0\n" if kind == "metrics" else value, encoding="utf-8")
    (stage / "artifacts").mkdir()
    for name in ARTIFACTS:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, stage / "artifacts" / name)


def _metrics(result: AuditResult) -> dict[str, str]:
    """Numbers of the audit and of every class; what was not measured or not reached is left out."""
    n, n_correct = result.counts
    metrics: dict[str, float | None] = {"accuracy": n_correct / n if n else None, "exit_code": result.verdict.exit_code}
    reliances = [each.image_reliance.reliance for each in result.classes if each.image_reliance is not None]
    metrics["max_image_reliance"] = max(reliances, default=None)
    names: dict[str, int] = {}
    for each in result.classes:
        name = re.sub(r"[^A-Za-z0-9_\- ]", "_", each.name).strip()[:100] or "_"
        names[name.lower()] = names.get(name.lower(), 0) + 1
        place = f"class/{name}" if names[name.lower()] == 1 else f"class/{name}_{each.index}"
        flip, reliance = each.alpha_hat.flip, each.image_reliance
        metrics |= {f"{place}/accuracy": each.accuracy, f"{place}/alpha_hat_flip": flip.median}
        if reliance is not None:
            metrics |= {f"{place}/image_reliance": reliance.reliance, f"{place}/image_reliance_low": reliance.low}
            metrics |= {f"{place}/image_reliance_high": reliance.high, f"{place}/redundancy": reliance.redundancy}
    return {name: repr(float(value)) for name, value in metrics.items() if value is not None}


def _params(result: AuditResult) -> dict[str, str]:
    settings = {name: value for name, value in result.provenance.config.items() if value is not None}
    settings |= {"model": result.model.name, "architecture": result.model.architecture, "data": result.data.root}
    return {name: plain(str(value))[:LONGEST] for name, value in settings.items()}


def _tags(result: AuditResult) -> dict[str, str]:
    return {
        "mlflow.runName": plain(result.model.name),
        "mlflow.source.name": NAME,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": NAME,
        "verdict": result.verdict.word,
        "model_sha256": result.provenance.model_sha256,
        "data_sha256": result.provenance.data_sha256,
        "tool_version": result.tool_version,
    }


def _experiment_meta(experiment: Path, began: int) -> str:
    return _yaml(
        {
            "artifact_location": experiment.as_uri(),
            "creation_time": began,
            "experiment_id": EXPERIMENT,
            "last_update_time": began,
            "lifecycle_stage": "active",
            "name": NAME,
        }
    )


def _run_meta(run: Path, result: AuditResult, began: int) -> str:
    return _yaml(
        {
            "artifact_uri": f"{run.as_uri()}/artifacts",
            "end_time": began,
            "entry_point_name": "",
            "experiment_id": EXPERIMENT,
            "lifecycle_stage": "active",
            "run_id": run.name,
            "run_name": plain(result.model.name),
            "run_uuid": run.name,
            "source_name": "",
            "source_type": LOCAL,
            "source_version": "",
            "start_time": began,
            "status": FINISHED,
            "tags": [],
            "user_id": NAME,
        }
    )


def _yaml(values: Mapping[str, object]) -> str:
    """Flat YAML; JSON's strings, numbers and empty lists are YAML's, too."""
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
