"""Files that are bundled with the packages: router model, default configuration, price list.

    load_config(bundled(Path("configs/default.yaml")))

In a clone they are at their paths in the repository. A wheel has copies of the same names beside
this file, so that an installation works in any folder.
"""

from pathlib import Path
from typing import Final

BUNDLED_FILES: Final = (  # what pyproject.toml puts into the wheel
    "configs/default.yaml",
    "configs/demo.yaml",
    "configs/pricing.yaml",
    "data/checks.jsonl",
    "data/domain.jsonl",
    "data/everyday.jsonl",
    "data/graded.jsonl",
    "data/models/router",
    "data/questions.jsonl",
)
_COPIES: Final = Path(__file__).resolve().with_name("bundled")
_CLONE: Final = _COPIES.parents[1]
IS_CLONE: Final = not _COPIES.is_dir()


def bundled(path: Path) -> Path:
    """`path` if it exists, else the bundled file of that name.

    Any other path is returned unchanged; opening a wrong one then fails.
    """
    if path.exists() or path.as_posix() not in BUNDLED_FILES:
        return path
    return (_CLONE if IS_CLONE else _COPIES) / path


def is_bundled_copy(path: Path) -> bool:
    """Whether a file is part of an installed package, and is replaced by its next version."""
    return not IS_CLONE and path.resolve().is_relative_to(_COPIES)
