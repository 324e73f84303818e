"""What the machine offers to this engine: versions, devices, memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device and its memory in bytes; 0 where it is not known."""

    device: str
    title: str
    free: int
    total: int


def devices() -> list[DeviceMemory]:
    """The accelerators that torch can use here, the fastest first; empty where there is only the CPU.

    Raises: RuntimeError where a driver is there and does not work.
    """
    found = []
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            found.append(DeviceMemory(f"cuda:{i}", torch.cuda.get_device_name(i), free, total))
    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        found.append(DeviceMemory("mps", "Apple GPU", total - int(torch.mps.driver_allocated_memory()), total))
    return found


def threads() -> int:
    """How many CPU threads torch computes with."""
    return torch.get_num_threads()


def cached_model(name: str) -> Path | None:
    """The folder of the hub's cache that holds a model; None where it would first be downloaded.

    Raises: ValueError for a name that no model of the hub can have.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None
