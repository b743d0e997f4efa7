"""The bundled fonts as style rules, and the scripts that they lack."""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache

from salve_audit.report.places import templates_dir

TEXT, MONO = "Salve Text", "Salve Mono"
FACES = (
    (TEXT, 400, "Inter-Regular.woff2"),
    (TEXT, 600, "Inter-SemiBold.woff2"),
    (MONO, 400, "JetBrainsMono-Regular.woff2"),
)
# First word of a character's Unicode name -> script in words, and the Debian package that has it.
PACKAGES = {
    "CJK": ("Chinese", "fonts-noto-cjk"),
    "HIRAGANA": ("Japanese", "fonts-noto-cjk"),
    "KATAKANA": ("Japanese", "fonts-noto-cjk"),
    "HANGUL": ("Korean", "fonts-noto-cjk"),
    "ARABIC": ("Arabic", "fonts-noto-core"),
    "DEVANAGARI": ("Devanagari", "fonts-noto-core"),
    "HEBREW": ("Hebrew", "fonts-noto-core"),
    "THAI": ("Thai", "fonts-noto-core"),
    "BENGALI": ("Bengali", "fonts-noto-core"),
    "TAMIL": ("Tamil", "fonts-noto-core"),
    "TELUGU": ("Telugu", "fonts-noto-core"),
    "GUJARATI": ("Gujarati", "fonts-noto-core"),
    "ARMENIAN": ("Armenian", "fonts-noto-core"),
    "GEORGIAN": ("Georgian", "fonts-noto-core"),
}
_EMOJI, _OTHER = ("emoji", "fonts-noto-color-emoji"), ("other signs", "fonts-noto-core")
_FIRST_EMOJI = 0x1F000
# Beyond what the bundled faces cover, whatever their tables say: blocks of the subset (scripts/subset_fonts.py).
_COVERED = ((0x20, 0x24F), (0x2C6, 0x2DD), (0x300, 0x52F), (0x1E00, 0x1FFF), (0x2000, 0x2069), (0x2070, 0x23FF))


@cache
def font_faces() -> str:
    """The @font-face rules, with the fonts in them."""
    rules = []
    for family, weight, file in FACES:
        data = base64.b64encode((templates_dir() / "fonts" / file).read_bytes()).decode("ascii")
        source = f'src: url("data:font/woff2;base64,{data}") format("woff2")'
        rules.append(f'@font-face {{ font-family: "{family}"; font-weight: {weight}; {source}; }}')
    return "\n".join(rules)


def foreign_scripts(texts: Iterable[str]) -> Mapping[tuple[str, str], str]:
    """(script, Debian package) of the characters that the bundled fonts lack, each with one such character."""
    scripts: dict[tuple[str, str], str] = {}
    for character in sorted(set("".join(texts))):
        if character.isspace() or any(low <= ord(character) <= high for low, high in _COVERED):
            continue
        if unicodedata.category(character) in ("Cf", "Mn", "Cc", "Cn", "Co", "Cs"):
            continue
        scripts.setdefault(_script(character), character)
    return scripts


def _script(character: str) -> tuple[str, str]:
    if ord(character) >= _FIRST_EMOJI:
        return _EMOJI
    return PACKAGES.get(unicodedata.name(character, "").split(" ")[0], _OTHER)
