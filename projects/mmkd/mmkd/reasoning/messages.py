"""System messages of the world."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mmkd.traces.system_messages import SystemMessages, load_system_messages

MESSAGES = Path(__file__).with_name('world_messages.yaml')


@lru_cache(maxsize=1)
def world_messages() -> SystemMessages:
    """System messages by id, for every family."""
    return load_system_messages(MESSAGES)
