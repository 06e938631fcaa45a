"""What this process may use of the machine that it runs on."""

from __future__ import annotations

import os


def threads() -> int:
    """Processors: on Linux maybe fewer than there are, under taskset or a cpuset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
