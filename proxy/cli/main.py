"""The `hybrid-llm` command. A command's module is imported when the command is invoked.

hybrid-llm serve --config configs/default.yaml
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from proxy import __version__

# In the order of `hybrid-llm --help`: commands for new users come first.
COMMANDS: Final = {
    # command: (module, function, short help, which fits one line of 80 columns)
    "init": ("serve", "init", "Write a configuration for this machine."),
    "serve": ("serve", "serve", "Run the proxy."),
    "demo": ("serve", "demo", "Run the proxy with small models instead of what is missing."),
    "check-config": ("routing", "check_config", "Check a configuration file."),
    "route": ("routing", "route", "Show where a prompt would be routed, and why."),
    "stats": ("requests", "stats", "Show requests, costs, latencies and answer quality."),
    "explain": ("requests", "explain", "Explain how one request was routed and how it ended."),
    "export": ("requests", "export", "Write requests to a JSONL or CSV file."),
    "judge": ("learning", "judge", "Judge sampled requests in a process of its own."),
    "notify": ("notify", "notify", "Send a test message to the webhook of notifications."),
    "prices": ("prices", "prices", "Maintain the price list (pricing.yaml)."),
    "db": ("database", "db", "Maintain the database (storage.url)."),
    "calibrate": ("learning", "calibrate", "Calibrate the router to your own models and traffic."),
    "promote": ("learning", "promote", "Replace the router model in use by a better one."),
    "learn": ("learning", "learn", "Show or change the state of self-calibration."),
}


class LazyGroup(click.Group):
    """A group that imports the module of a command when that command is invoked.

    The list of commands needs no import: the short helps are in the table. Source of the pattern:
    https://click.palletsprojects.com/en/stable/complex/#defining-the-lazy-group
    """

    def __init__(
        self, *args: Any, lazy_commands: Mapping[str, tuple[str, str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy_commands = lazy_commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy_commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy_commands:
            return None
        module, function, _ = self._lazy_commands[cmd_name]
        command = getattr(import_module(f"proxy.cli.{module}"), function)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (*_, short) in self._lazy_commands.items()])


@click.group(
    cls=LazyGroup,
    lazy_commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Get started: `hybrid-llm init`, then `hybrid-llm serve`.",
)
@click.version_option(__version__, prog_name="hybrid-llm")
def main() -> None:
    """Answer OpenAI API requests with a local or a cloud model. A trained router chooses."""
