"""Whether a SQLite database is on a network file system, whose locks and shared memory fail.

Source: https://sqlite.org/wal.html ("WAL does not work over a network filesystem") and
https://sqlite.org/howtocorrupt.html, section 2.1.
"""

import re
from pathlib import Path
from typing import Final

from proxy.config import StorageConfig

MOUNTS: Final = Path("/proc/self/mounts")
# Types as the kernel names them; those of FUSE have the name of the program behind the dot.
_NETWORK_TYPES: Final = frozenset(
    "nfs nfs4 cifs smb2 smb3 smbfs ncpfs afs ceph 9p lustre gpfs beegfs glusterfs davfs vboxsf "
    "fuse.sshfs fuse.rclone fuse.glusterfs fuse.s3fs fuse.gcsfuse fuse.mount-s3 fuse.davfs2 "
    "fuse.curlftpfs fuse.ceph fuse.juicefs fuse.grpcfuse fuse.osxfs".split()
)


def network_storage_warning(storage: StorageConfig, *, mounts: Path = MOUNTS) -> str | None:
    """The warning about a SQLite database on a network file system; None for every other place.

    Args:
        mounts: the mount table of Linux (proc(5), /proc/pid/mounts). Without it nothing is known.
    """
    if not storage.url.is_sqlite:
        return None
    kind = _file_system(Path(storage.url.path), mounts)
    if kind not in _NETWORK_TYPES:
        return None
    return (
        f"storage.url: the database is on a network file system ({kind}), where SQLite can lose "
        "data; use a local disk, or PostgreSQL"
    )


def _file_system(file: Path, mounts: Path) -> str | None:
    """The type of the file system that has a file or would have it."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        place = file.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return None
    best, found = -1, None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1]))
        # The last of several mounts on one point hides the others.
        if place.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), fields[2]
    return found
