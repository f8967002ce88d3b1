"""What a cluster's folders tell of it, as any other process reads them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from roost.common.cluster.cluster_map import ClusterMap
from roost.common.cluster.directory_file import FILE_NAME, DirectoryFile
from roost.common.machine.counters import read_counters
from roost.common.machine.run_folder import counters_path


def map_in(data: Path) -> ClusterMap:
    """The cluster map as it is now."""
    with contextlib.closing(DirectoryFile(data / FILE_NAME)) as directory:
        return directory.map()


def counters_in(run: Path, name: str) -> dict[str, int]:
    """What a member has published last."""
    return dict(read_counters(counters_path(run, name)).values)
