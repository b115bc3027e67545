"""Collects the shards of a plan as tasks of Ray; needs ``pip install "mmkd[ray]"``.

The run directory has to be on a file system that all nodes share and that can lock files. What is
kept, and how a run goes on, is the same as with processes of any scheduler.
"""

from __future__ import annotations

from typing import Any

from mmdistill.core.errors import UserError
from mmkd.collection.plan import read_plan
from mmkd.collection.run import Outcome, collect_shard
from mmkd.collection.shards import Shard


def collect_on_ray(
    config: dict[str, Any], shards: int, options: dict[str, Any] | None = None
) -> list[Outcome]:
    """Runs one task for each shard and waits for them.

    Args:
        config: keys of :class:`mmkd.collection.plan.Plan`, plain values alone.
        shards: number of tasks.
        options: of ``ray.remote``, for instance ``num_cpus``.

    Returns:
        How each shard ended, in their order.

    Raises:
        UserError: Ray is not installed, or a shard could not be collected.
    """
    try:
        import ray
    except ImportError:
        raise UserError('Ray is not installed: pip install "mmkd[ray]"') from None
    read_plan(config, 'the plan')
    if not ray.is_initialized():
        ray.init(ignore_reinit_error=True)
    task = ray.remote(**{'num_cpus': 1, 'max_retries': 3, **(options or {})})(_collect)
    ends = ray.get([task.remote(config, index, shards) for index in range(shards)])
    problems = [each for each in ends if isinstance(each, str)]
    if problems:
        raise UserError(problems[0])
    return ends


def _collect(config: dict[str, Any], index: int, count: int) -> Outcome | str:
    """Collects one shard; a problem of the user's comes back as its text."""
    try:
        return collect_shard(read_plan(config, 'the plan'), Shard(index, count))
    except UserError as error:
        return str(error)
