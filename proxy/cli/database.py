"""`hybrid-llm db`: maintenance of the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.options import config_option, load

if TYPE_CHECKING:
    from proxy.storage import Maintenance


@click.group()
def db() -> None:
    """Maintain the database (storage.url).

    Example: hybrid-llm db size
    """


@db.command("size")
@config_option()
def db_size(config_path: Path) -> None:
    """Show the size of the database and the row count of each table.

    Example: hybrid-llm db size
    """
    from rich.console import Console
    from rich.table import Table

    with _maintenance(config_path) as maintenance:
        table = Table("table", "rows", box=None)
        for name, number in maintenance.count_rows().items():
            table.add_row(name, f"{number:,}")
        Console().print(table)
        click.echo(f"{maintenance.size_bytes() / 1e6:,.1f} MB")


@db.command("migrate")
@config_option()
def db_migrate(config_path: Path) -> None:
    """Migrate the database to the current schema.

    The proxy does this too when it starts.

    Example: hybrid-llm db migrate
    """
    from proxy.storage import NEWEST

    with _maintenance(config_path) as maintenance:
        for step in maintenance.migrate():
            click.echo(f"schema {step.number}: {step.name}")
        click.echo(f"schema {NEWEST}: up to date")


@db.command("vacuum")
@config_option()
def db_vacuum(config_path: Path) -> None:
    """Reclaim the disk space of deleted rows.

    SQLite blocks all writes while this runs.

    Example: hybrid-llm db vacuum
    """
    with _maintenance(config_path) as maintenance:
        before = maintenance.size_bytes()
        maintenance.vacuum()
        after = maintenance.size_bytes()
        click.echo(f"{before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now")


@db.command("check")
@config_option()
@click.option("--repair", is_flag=True, help="Recompute hourly rollups that are wrong.")
def db_check(config_path: Path, repair: bool) -> None:
    """Check the database file, and the hourly rollups against the rows.

    Exit status 1 if something is wrong.

    Example: hybrid-llm db check
    """
    with _maintenance(config_path) as maintenance:
        problems = maintenance.check(repair=repair)
    for problem in problems:
        click.echo(problem)
    if problems and not repair:
        raise SystemExit(1)
    click.echo("repaired" if problems else "ok")


@contextmanager
def _maintenance(config_path: Path) -> Iterator["Maintenance"]:
    from proxy.storage import Maintenance, StoreUnavailable

    try:
        with Maintenance.open(load(config_path).storage) as maintenance:
            yield maintenance
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None
