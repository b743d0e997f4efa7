"""Makes templates/fonts/*.woff2 from the sources that templates/fonts/README.md names; the outputs are committed.

python scripts/subset_fonts.py INTER_WEB_DIR JETBRAINS_MONO_DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FONTS_DIR = Path(__file__).resolve().parents[1] / "templates" / "fonts"
LATIN = [*range(0x20, 0x7F), *range(0xA0, 0x250), *range(0x1E00, 0x1F00), 0x2C6, 0x2C7, 0x2D8, 0x2D9, 0x2DA, 0x2DC]
COMBINING, GREEK, CYRILLIC = range(0x300, 0x370), range(0x370, 0x400), range(0x400, 0x530)
SIGNS = [*range(0x2000, 0x20C0), *range(0x2100, 0x2150), *range(0x2190, 0x219A), *range(0x2200, 0x2300)]
SHAPES = [*range(0x25A0, 0x2600), 0x2713, 0x2717, 0xFB01, 0xFB02]
TEXT = [*LATIN, *COMBINING, *GREEK, *CYRILLIC, *SIGNS, *SHAPES]
FEATURES = ["kern", "mark", "mkmk", "ccmp", "locl", "tnum", "zero"]


def write_subset(source: Path, name: str) -> None:
    """One face of `source` with the characters and features that the report uses, as WOFF2."""
    options = subset.Options(flavor="woff2", layout_features=FEATURES, hinting=False, desubroutinize=True)
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 13, 14]  # copyright and licence stay in the file
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=TEXT)
    subsetter.subset(font)
    place_marks_in_every_script(font)
    subset.save_font(font, FONTS_DIR / name, options)


def place_marks_in_every_script(font: TTFont) -> None:
    """Inter has the anchors that put a circumflex over a Greek alpha, but names the feature for Latin only."""
    table = font["GPOS"].table
    records = table.FeatureList.FeatureRecord
    marks = [i for i, record in enumerate(records) if record.FeatureTag in ("mark", "mkmk")]
    for script in table.ScriptList.ScriptRecord:
        system = script.Script.DefaultLangSys
        system.FeatureIndex = sorted({*system.FeatureIndex, *marks})
        system.FeatureCount = len(system.FeatureIndex)


def main(inter_dir: Path, mono_dir: Path) -> None:
    """Both families: text in two weights, code in one."""
    write_subset(inter_dir / "Inter-Regular.woff2", "Inter-Regular.woff2")
    write_subset(inter_dir / "Inter-SemiBold.woff2", "Inter-SemiBold.woff2")
    write_subset(mono_dir / "JetBrainsMono-Regular.ttf", "JetBrainsMono-Regular.woff2")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
