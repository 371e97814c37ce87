"""A SQLite database on a network file system is warned of."""

from pathlib import Path

import pytest

from proxy.config import StorageConfig
from proxy.secret import DatabaseUrl
from proxy.storage.network_mounts import network_storage_warning


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A mount table with network and local file systems below this folder."""
    for name in ("share", "share/disk", "my files", "sshfs", "windows", "local"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")
    table = tmp_path / "mounts"
    lines = [
        "rootfs / ext4 rw 0 0",
        f"nas:/x {tmp_path}/share nfs4 rw,vers=4.2 0 0",
        f"/dev/sda1 {tmp_path}/share/disk ext4 rw 0 0",
        f"//nas/x {tmp_path}/my\\040files cifs rw 0 0",
        f"bob@nas: {tmp_path}/sshfs fuse.sshfs rw 0 0",
        f"C:\\134 {tmp_path}/windows ext4 rw 0 0",
        f"C:\\134 {tmp_path}/windows 9p rw 0 0",
        "broken",
    ]
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("router.db", None),
        ("share/router.db", "nfs4"),
        ("share/new/folder/router.db", "nfs4"),
        ("link/router.db", "nfs4"),
        ("share/disk/router.db", None),
        ("shared/router.db", None),
        ("my files/router.db", "cifs"),
        ("sshfs/router.db", "fuse.sshfs"),
        ("windows/router.db", "9p"),
        ("local/router.db", None),
    ],
)
def test_the_file_system_of_the_longest_mount_point_counts(
    tmp_path: Path, mounts: Path, place: str, kind: str | None
) -> None:
    storage = StorageConfig(url=DatabaseUrl(f"sqlite:///{tmp_path}/{place}"))
    warning = network_storage_warning(storage, mounts=mounts)
    assert warning == (
        None
        if kind is None
        else f"storage.url: the database is on a network file system ({kind}), where SQLite can "
        "lose data; use a local disk, or PostgreSQL"
    )


def test_a_relative_path_is_below_the_working_directory(
    tmp_path: Path, mounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "share")
    storage = StorageConfig(url=DatabaseUrl("sqlite:///data/router.db"))
    assert "(nfs4)" in (network_storage_warning(storage, mounts=mounts) or "")


def test_other_databases_and_systems_are_not_looked_at(tmp_path: Path, mounts: Path) -> None:
    postgresql = StorageConfig(url=DatabaseUrl(f"postgresql://u@h{tmp_path}/share/x"))
    assert network_storage_warning(postgresql, mounts=mounts) is None
    sqlite = StorageConfig(url=DatabaseUrl(f"sqlite:///{tmp_path}/share/router.db"))
    assert network_storage_warning(sqlite, mounts=tmp_path / "nothing") is None
