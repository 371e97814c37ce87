"""How answers look: Markdown of models, rendered in a real browser.

`answers/` has answers as models write them, each with a description of its elements and a small
picture. `make answers` records both anew.
"""

import difflib
import os
from pathlib import Path
from typing import Final

import pytest

from live import LiveProxy
from pages.conftest import Show
from pages.rendering import compare_pictures, describe, open_renderer, render, take_picture

ANSWERS: Final = Path(__file__).with_name("answers")
NAMES: Final = sorted(path.stem for path in ANSWERS.glob("*.md"))
RECORD: Final = bool(os.environ.get("RECORD_ANSWERS"))
# Their characters are not in the fonts that Debian installs with Chromium.
WITHOUT_PICTURE: Final = {"chinese", "emojis", "email_draft", "japanese"}
TOLERANCE: Final = 0.02  # of the places with ink
DESKTOP: Final = {"width": 1440, "height": 900}


def read(name: str, suffix: str = ".md") -> str:
    return (ANSWERS / f"{name}{suffix}").read_text(encoding="utf-8")


@pytest.mark.needs("maths-font")
async def test_answers_are_rendered_as_recorded(proxy: LiveProxy, show: Show) -> None:
    page = await open_renderer(show, proxy, viewport=DESKTOP)
    differences = []
    for name in NAMES:
        await render(page, read(name))
        description, picture = await describe(page), await take_picture(page)
        if RECORD:
            (ANSWERS / f"{name}.txt").write_text(description, encoding="utf-8")
            if name not in WITHOUT_PICTURE:
                (ANSWERS / f"{name}.png").write_bytes(picture)
            continue
        recorded = read(name, ".txt").splitlines()
        differences += difflib.unified_diff(
            recorded, description.splitlines(), f"{name}.txt", f"{name}, now", lineterm="", n=1
        )
        if name not in WITHOUT_PICTURE:
            share = await compare_pictures(page, (ANSWERS / f"{name}.png").read_bytes(), picture)
            if share > TOLERANCE:
                differences.append(f"{name}.png: {share:.1%} of the picture differ")
    assert not differences, "\n".join(differences)
