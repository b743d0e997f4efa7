"""The files beside an audit.json: in memory, as an audit leaves them, or in the folder that it was loaded from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from salve_audit.errors import OutputError, ResultError

if TYPE_CHECKING:
    from salve_audit.results.audit import AuditResult

SAMPLES, SAE = "samples.parquet", "sae.safetensors"


class Companions(Protocol):
    """Whatever holds the other files of an audit."""

    @property
    def name(self) -> str:
        """Of the audit, for messages."""

    def read(self, file: str) -> bytes:
        """The content of a file.

        Raises:
            ResultError: it is not there.
        """

    def save(self, result: AuditResult, folder: Path, formats: Sequence[str]) -> None:
        """Writes the whole result folder.

        Raises:
            OutputError: it cannot be written.
        """


@dataclass(frozen=True)
class FolderCompanions:
    """The files of a saved audit.

    Attributes:
        audit: its audit.json.
    """

    audit: Path

    @property
    def folder(self) -> Path:
        """Where all of them lie."""
        return self.audit.parent

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self, file: str) -> bytes:
        """The content of a file in the folder."""
        path = self.folder / file
        try:
            return path.read_bytes()
        except OSError as error:
            raise ResultError(str(path), error.strerror or "cannot be read") from error

    def save(self, result: AuditResult, folder: Path, formats: Sequence[str]) -> None:
        """Copies the audit's own files; a report is rendered by ``salve-audit report``."""
        if folder.resolve() == self.folder.resolve():
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted(self.folder.iterdir()):
                if file.is_file() and (file.suffix in (".json", ".parquet", ".safetensors") or file.stem == "report"):
                    shutil.copyfile(file, folder / file.name)
        except OSError as error:
            raise OutputError(str(folder), f"cannot be written ({error.strerror or error})") from error
