"""What a benchmark ran on: enough to run it again and to doubt it."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from siloquy import __version__

PACKAGES = ("torch", "sentence-transformers", "faiss-cpu", "numpy", "websockets", "cryptography")


def manifest(
    config: dict[str, object], data: dict[str, str], seed: int, packages: Sequence[str] = ()
) -> dict[str, object]:
    """Versions, those of further ``packages`` too, seed, data hashes, hardware and settings."""
    return {
        "siloquy": __version__,
        "commit": _commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "config": config,
        "data_sha256": data,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in (*PACKAGES, *packages)},
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "system": f"{platform.system()} {platform.machine()}",
            "load_average": [round(load, 2) for load in os.getloadavg()],
        },
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    """The checkout's commit, marked when it has changes; empty outside a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout.strip()


def peak_memory_mb(pid: int) -> float:
    """Peak resident memory of a process in MB; its present one where the peak is not kept."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return round(int(line.split()[1]) / 1024, 1)
    return round(psutil.Process(pid).memory_info().rss / 2**20, 1)
