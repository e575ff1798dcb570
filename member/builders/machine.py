"""What the machine that a member runs on has."""

import asyncio
import os
from pathlib import Path

import psutil

from contract.reports import Usage
from member.builders.base import Resources


async def resources(disk: Path) -> Resources:
    """Memory and CPU of this machine, and the file system that ``disk`` is on."""
    memory = psutil.virtual_memory()
    usage = await asyncio.to_thread(psutil.disk_usage, str(disk))
    return Resources(
        memory=Usage(memory.total - memory.available, memory.total),
        cpu=Usage(os.getloadavg()[0], os.cpu_count()),
        disk=Usage(usage.used, usage.total),
    )
