"""Languages: every text of a report is in the catalogue, with its places, and numbers are the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
from report_reliance import build_scenario
from report_results import build_result
from report_texts import places, texts_of_code, texts_of_templates

from salve_audit.report import Rendering, render_html
from salve_audit.report import language as language_module
from salve_audit.report.places import templates_dir
from salve_audit.report.view import PDF

CATALOGUE: dict[str, str] = json.loads((templates_dir() / "texts" / "de.json").read_text(encoding="utf-8"))


def test_the_catalogue_has_every_text_that_is_written_out() -> None:
    written = {text for text in (*texts_of_code(), *texts_of_templates()) if re.search("[A-Za-z]", text)}
    assert sorted(written - set(CATALOGUE)) == []


def test_translations_keep_places_and_the_spaces_that_join_sentences() -> None:
    for text, translated in CATALOGUE.items():
        assert places(translated) <= places(text), text
        assert translated.startswith(" ") == text.startswith(" "), text
        assert translated.endswith(" ") == text.endswith(" "), text
        assert sorted(re.findall("</?[a-z]+", translated)) == sorted(re.findall("</?[a-z]+", text)), text


class _Recorder(dict[str, str]):
    """A catalogue that remembers what it was asked for in vain."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__(texts)
        self.missed: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        if key not in self and re.search(r"[A-Za-z]{3}", key) and key not in self.values():
            self.missed.add(key)
        return super().get(key, default)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["failing", "calm", "arrays", "open", "hundred"])
def test_nothing_that_is_said_is_missing(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = _Recorder(CATALOGUE)
    monkeypatch.setattr(language_module, "_load", lambda language: recorder)
    result = build_scenario(scenario)
    for medium_page in (
        render_html(result, rendering=Rendering(language="de")),
        render_html(result, PDF, Rendering(language="de")),
        render_html(build_result(demo=True), rendering=Rendering(language="de")),
    ):
        assert '<html lang="de">' in medium_page
    assert sorted(recorder.missed) == []


@pytest.mark.slow
def test_numbers_are_the_same_in_every_language() -> None:
    result = build_scenario("failing")
    english, german = (
        re.findall(r"<b>([\d.]+)", render_html(result, rendering=Rendering(language=each))) for each in ("en", "de")
    )
    assert english == german
    assert len(english) == 9


def test_the_language_ends_with_the_report() -> None:
    render_html(build_result(1, plain_names=True), rendering=Rendering(language="de"))
    assert language_module.say("Appendix") == "Appendix"
