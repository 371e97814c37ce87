"""A stand-in for `hybrid-llm-train`, and the folders of the tests of experiments.

A command runs the test's program of the same name in the folder of the prepared rows or the
journal. Without such a program it prints that it is done.
"""

import itertools
import sys
from pathlib import Path
from typing import Any, Final

COMMAND: Final = (sys.executable, str(Path(__file__).resolve()))
DATA: Final = Path(__file__).resolve().parents[2] / "data"
PATIENCE_SECONDS: Final = 30.0

# Prints its progress and waits for the file `go-on`. Writes its arguments to told.json.
WAITING: Final = """
import json, os, time
(folder / "told.json").write_text(json.dumps([arguments, dict(os.environ), os.getpid()]))
print("scoring: 1/4, about 0.1 min left")
while not (folder / "go-on").exists():
    time.sleep(0.01)
print("scoring: 4/4, about 0.0 min left")
"""


class Folders:
    """The folders of an experiment's configuration, and the programs of its commands."""

    def __init__(self, folder: Path) -> None:
        self.work, self.data, self.results = (
            folder / name for name in ("work", "outcomes", "results")
        )
        for path in (self.work, self.data / "prompts", self.data / "annotated"):
            path.mkdir(parents=True)

    def config(self, **changes: Any) -> dict[str, Any]:
        folders = {name: str(getattr(self, name)) for name in ("work", "data", "results")}
        return {"experiments": folders | changes}

    def program(self, command: str, text: str) -> None:
        (self.work / f"{command}.py").write_text(text, encoding="utf-8")

    def go_on(self) -> None:
        (self.work / "go-on").touch()


def main(arguments: list[str]) -> None:
    folders = [
        Path(value).parent
        for option, value in itertools.pairwise(arguments)
        if option in ("--prepared", "--journal")
    ]
    program = folders[0] / f"{arguments[0]}.py" if folders else None
    if program is None or not program.exists():
        print(f"{arguments[0]}: done")
        return
    code = compile(program.read_text(encoding="utf-8"), str(program), "exec")
    exec(code, {"arguments": arguments, "folder": program.parent})


if __name__ == "__main__":
    main(sys.argv[1:])
