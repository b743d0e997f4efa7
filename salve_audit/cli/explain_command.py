"""``salve-audit explain MODEL IMAGE... AUDIT``: images explained by the features of an audit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salve_audit.cli.arguments import AUDIT, IMAGE, MODEL, check_order
from salve_audit.cli.options import AS_AUDITED, EDITED, SectionedCommand, options_of, own_option, shared_option
from salve_audit.cli.printing import set_up_logging
from salve_audit.config import WRITTEN
from salve_audit.explain.output import FORMATS, check_explanation_out, choose_format, write_whole
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    from salve_audit.explain.findings import Explanation

PATH = click.Path(path_type=Path)
_EDIT = "by number or name; a class for its dominant one; alone: the one that speaks most for the prediction."
_OPTIONS = [
    own_option(
        EDITED, "--suppress", is_flag=False, flag_value="", metavar="[FEATURE|CLASS]", help=f"A feature, {_EDIT}"
    ),
    own_option(
        EDITED, "--enhance", is_flag=False, flag_value="", metavar="[FEATURE|CLASS]", help="Likewise, strengthened."
    ),
    own_option(
        EDITED, "--insert", metavar="CLASS", help="Also give the images the global factors of CLASS, one by one."
    ),
    own_option(EDITED, "--alpha-hat", type=float, default=1.0, metavar="X", help="Strength of the edits  [default: 1]"),
    own_option(
        WRITTEN, "--features", "n_features", type=int, default=10, metavar="N", help="How many to list  [default: 10]"
    ),
    own_option(
        WRITTEN,
        "--format",
        "chosen",
        type=click.Choice(FORMATS),
        help="Of the explanation.  [default: by FILE's suffix, else text]",
    ),
    own_option(
        WRITTEN, "-o", "--out", type=PATH, metavar="FILE", help="A .html, .png, .json or .txt.  [default: stdout]"
    ),
    shared_option("saliency_layer"),
    shared_option("arch", unset=AS_AUDITED),
    shared_option("head", unset=AS_AUDITED),
    shared_option("weights", unset=AS_AUDITED),
    shared_option("trust_model"),
    shared_option("device"),
]


@click.command("explain", cls=SectionedCommand)
@click.argument("model", type=PATH)
@click.argument("images", type=PATH, nargs=-1, required=True, metavar="IMAGE...")
@click.argument("audit", type=PATH)
@options_of(_OPTIONS)
def command(
    model: Path,
    images: tuple[Path, ...],
    audit: Path,
    chosen: str | None,
    out: Path | None,
    verbose: int,
    quiet: bool,
    **flags: Any,
) -> int:
    """Explain what MODEL says of IMAGE by the features of its AUDIT.

    AUDIT is the folder that the audit of MODEL left. Shown are the prediction, how much every feature adds to the
    predicted class's logit, how far it must be suppressed before another class is predicted, where in the image it
    looks, what the prediction depends on in the image (regions, and global factors such as border, colour and
    sharpness), and what an edit of the final layer (--suppress, --enhance) changes. Nothing is written but FILE.

    \b
      salve-audit explain model.pt church.jpg salve-report
      salve-audit explain model.pt church.jpg salve-report --suppress church --alpha-hat 1.5 -o church.html
    """
    set_up_logging(verbose, quiet)
    check_order("salve-audit explain", (MODEL, IMAGE, AUDIT), (model, *images, audit))
    check_explanation_out(out, (model, *images, audit))
    kind = choose_format(chosen, out)
    from salve_audit.explain.request import ExplainRequest
    from salve_audit.explain.run import explain_images

    content = render(explain_images(ExplainRequest(model=model, images=images, audit=audit, **flags)), kind)
    if out is not None:
        write_whole(out, content)
        click.echo(f"written: {plain(str(out))}")
    else:
        sys.stdout.write(content.decode("utf-8"))
    return 0


def render(explanations: tuple[Explanation, ...], kind: str) -> bytes:
    """The findings as ``text``, ``json``, ``html`` or ``png``."""
    if kind == "png":
        from salve_audit.explain.figure import render_figure

        return render_figure(explanations)
    if kind == "html":
        from salve_audit.explain.page import render_page

        return render_page(explanations).encode("utf-8")
    if kind == "json":
        from salve_audit.explain.as_json import render_json

        return render_json(explanations).encode("utf-8")
    from salve_audit.cli.explain_text import render_text

    return render_text(explanations).encode("utf-8")
