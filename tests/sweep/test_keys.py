"""`sweep spec`: every key explained, in a text that is a spec itself."""

import pytest

from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.keys import spec_reference
from depth_loss_sweep.reports.references import LACKING, REFERENCES
from depth_loss_sweep.spec import SECTION_SETTINGS, SearchSection, StudySection
from depth_loss_sweep.spec_file import parse_spec

SECTIONS = {"study": StudySection, **SECTION_SETTINGS, "search": SearchSection}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_has_a_description_of_one_line(section) -> None:
    """Whoever adds a key says what it means."""
    for name, field in SECTIONS[section].model_fields.items():
        assert field.description and "\n" not in field.description, f"{section}.{name}"


def test_the_text_is_a_spec_with_every_default() -> None:
    """It is accepted as it stands, and changes nothing: every section is as if it had been left out."""
    spec = parse_spec(spec_reference(), {}, "mine.toml")
    assert spec.name == "mine" and spec.kind == "line" and spec.data == DataSettings()
    for section, kind in SECTIONS.items():
        assert getattr(spec, section) == kind(**({"name": "mine"} if section == "study" else {}))


def test_every_key_and_every_point_stands_in_it(capsys) -> None:
    """The command prints all keys, those without a default as comments, and the points that can be named."""
    text = spec_reference()
    for kind in SECTIONS.values():
        for name in kind.model_fields.keys() - {"own"}:  # they have tables of their own, [terms.NAME]
            assert f"\n{name} = " in text or f"\n# {name} = ..." in text, name
    for name in (*REFERENCES, *LACKING):
        assert f"  {name}: " in text or f"  not {name}: " in text
    assert '("adam" | "adamw")' in text and "(number, from 0, below 1)" in text
