"""Files that come with the packages: the router model, the default configuration, the price list.

    load_config(bundled(Path("configs/default.yaml")))

In a clone they lie where git has them. A wheel has copies beside this file, by the same names, so
that what is installed works in any folder.
"""

from pathlib import Path
from typing import Final

BUNDLED_FILES: Final = (  # what pyproject.toml puts into the wheel
    "configs/default.yaml",
    "configs/demo.yaml",
    "configs/pricing.yaml",
    "data/checks.jsonl",
    "data/everyday.jsonl",
    "data/models/router",
    "data/questions.jsonl",
)
_COPIES: Final = Path(__file__).resolve().with_name("bundled")
_CLONE: Final = _COPIES.parents[1]
IS_CLONE: Final = not _COPIES.is_dir()


def bundled(path: Path) -> Path:
    """Where a file is: at `path`, or in the package if nothing is there and it carries that name.

    Every other path is returned as it is, so that a wrong one is an error of whoever opens it.
    """
    if path.exists() or path.as_posix() not in BUNDLED_FILES:
        return path
    return (_CLONE if IS_CLONE else _COPIES) / path
