"""Reports of a saved audit, rendered again: other paper, another language, against another audit, without names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from salve_audit.audit.private import write_key
from salve_audit.audit.publish import check_writable, publishing
from salve_audit.audit.reports import write_reports
from salve_audit.audit.reviewed import reviewed_concepts
from salve_audit.audit.samples_csv import read_samples_csv
from salve_audit.errors import UsageError
from salve_audit.gate.review import load_review
from salve_audit.report import Rendering
from salve_audit.results import AuditResult, load_audit
from salve_audit.results.relabel import anonymise, without_pixels


@dataclass(frozen=True)
class RenderAgain:
    """What is asked for; the fields are the options of ``salve-audit report``."""

    audit: Path
    out: Path | None
    formats: tuple[str, ...]
    against: Path | None = None
    allow_mismatch: tuple[str, ...] = ()
    review: Path | None = None
    pdf: str = "full"
    paper: str = "a4"
    lang: str = "en"
    no_images: bool = False
    anonymise: bool = False


def render_again(choice: RenderAgain) -> Path:
    """Render, and return the folder.

    Raises:
        SalveError: an audit cannot be read, the two are too unlike, or a report cannot be rendered or written.
    """
    folder = choice.audit if choice.audit.is_dir() else choice.audit.parent
    home = choice.out or folder
    if choice.anonymise and home.resolve() == folder.resolve():
        raise UsageError("--anonymise", "the audit itself lies there, with its names", hint="--out DIR")
    if choice.anonymise and choice.against is not None:
        raise UsageError("--anonymise", "the other audit has its names", hint="leave --against out")
    result = load_audit(choice.audit)
    check_writable(home)
    source = (choice.audit / "audit.json" if choice.audit.is_dir() else choice.audit).read_bytes()
    samples = None if choice.anonymise else read_samples_csv(folder)
    comparison = None
    if choice.against is not None:
        from salve_audit.compare import compare_audits

        comparison = compare_audits(choice.against, choice.audit, choice.allow_mismatch)
    reviewed = {} if choice.review is None else reviewed_concepts(load_review(choice.review), result)
    rendering = Rendering(
        choice.paper,
        choice.pdf,
        choice.lang,
        reviewed=reviewed,
        samples_csv=samples,
        comparison=comparison,
        review_form=not choice.anonymise,
    )
    bare = _bare(result, choice, home)
    text = source if bare is result else bare.to_json().encode("utf-8")
    if choice.anonymise:
        with publishing(home, replaces=()) as stage:
            (stage / "audit.json").write_bytes(text)
    write_reports(bare, text, home, choice.formats, rendering)
    return home


def _bare(result: AuditResult, choice: RenderAgain, home: Path) -> AuditResult:
    """The result without what may not be shown; the key to its names is written beside the folder."""
    if choice.no_images:
        result = without_pixels(result)
    if choice.anonymise:
        result, key = anonymise(result)
        write_key(key, home)
    return result
