"""`hybrid-llm notify`: try the webhook of the configuration."""

import asyncio
from pathlib import Path

import click

from proxy.cli.options import config_option, load


@click.command()
@click.option("--test", is_flag=True, required=True, help="Send a test message.")
@config_option()
def notify(test: bool, config_path: Path) -> None:
    """Send a test message to the webhook of notifications.

    Its address is `notifications.webhook_url`.

    Exit status 0 if the webhook accepted it, else 1.

    Example: hybrid-llm notify --test
    """
    from proxy.server import send_test_message

    url = load(config_path).notifications.webhook_url
    if not url:
        raise click.ClickException(f"{config_path}: notifications.webhook_url is not set")
    problem = asyncio.run(send_test_message(url))
    if problem is not None:
        raise click.ClickException(f"the webhook {problem}")
    click.echo("the webhook accepted the test message")
