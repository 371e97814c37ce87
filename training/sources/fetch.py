"""Download of public data sets. Existing files are kept."""

from collections.abc import Mapping
from pathlib import Path

import httpx2

from training.dataset import DataError
from training.progress import say

DEFAULT_BASE = "https://raw.githubusercontent.com"
_TIMEOUT_SECONDS = 60.0


def fetch(
    files: Mapping[Path, str],
    *,
    base: str = DEFAULT_BASE,
    transport: httpx2.BaseTransport | None = None,
) -> None:
    """Download `files` (target -> path below `base`), each atomically.

    Raises DataError, which names the address and the manual alternative.
    """
    with httpx2.Client(
        timeout=_TIMEOUT_SECONDS, follow_redirects=True, transport=transport
    ) as client:
        for target, path in files.items():
            if target.exists():
                continue
            url = f"{base.rstrip('/')}/{path}"
            try:
                content = client.get(url).raise_for_status().content
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise DataError(
                    f"{url} cannot be fetched ({error}): without internet, put the file at "
                    f"{target} by hand, or name a mirror with --fetch-base"
                ) from error
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".partial")
            partial.write_bytes(content)
            partial.replace(target)
            say(f"fetched {url} ({len(content)} bytes)")
