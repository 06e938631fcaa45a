"""What this process may use of the machine that it runs on."""

from __future__ import annotations

import os


def threads() -> int:
    """Processors: on Linux maybe fewer than there are, under taskset or a cpuset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of the first device's memory: an accelerator's own, or that of the machine."""
    import jax

    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
