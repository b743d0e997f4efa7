"""The files of an audit that has just been made, kept in memory beside its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from salve_audit.audit.publish import check_writable
from salve_audit.audit.recall import Measured
from salve_audit.audit.run import write_audit
from salve_audit.config import AuditConfig
from salve_audit.errors import ResultError
from salve_audit.results import AuditResult
from salve_audit.results.companions import SAE, SAMPLES
from salve_audit.results.view import attach

CONCEPTS = "concepts.safetensors"


@dataclass(frozen=True)
class KeptFiles:
    """All that the files of an audit are made of.

    Attributes:
        measured: the audit.
        config: its settings.
    """

    measured: Measured
    config: AuditConfig

    @property
    def name(self) -> str:
        """Of the model."""
        return self.measured.result.model.name

    def read(self, file: str) -> bytes:
        """The content of a file.

        Raises:
            ResultError: the audit has none of that name.
        """
        files = {SAMPLES: self.measured.samples, SAE: self.measured.sae, CONCEPTS: self.measured.concepts}
        content = files.get(file)
        if content is None:
            raise ResultError(file, f"the audit of {self.name} has no such file")
        return content

    def save(self, result: AuditResult, folder: Path, formats: Sequence[str]) -> None:
        """Writes the whole result folder, all or nothing."""
        check_writable(folder)
        config = dataclasses.replace(self.config, out=folder, format=tuple(formats))
        write_audit(dataclasses.replace(self.measured, result=result), config)


def keep_files(measured: Measured, config: AuditConfig) -> AuditResult:
    """The result of an audit, which finds its files from now on."""
    return attach(measured.result, KeptFiles(measured, config))
