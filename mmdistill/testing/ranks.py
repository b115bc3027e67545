"""Several ranks on one machine, on the CPU, for tests."""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist


class RankError(RuntimeError):
    """A rank raised, died or hung; the message names it and holds its traceback."""


def cpu_ranks() -> dict[str, Any]:
    """Arguments of mmengine's ``Runner`` (or ``toy_runner``) inside :func:`run_gloo`."""
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        find_unused_parameters=False,
        broadcast_buffers=False,
    )
    return dict(launcher='pytorch', cfg=dict(model_wrapper_cfg=wrapper))


def _rank_main(
    send: Connection, fn: Callable, rank: int, world_size: int, rendezvous: str, seconds: float,
    args: tuple,
) -> None:  # fmt: skip
    """Body of a rank: joins the group, calls the function, sends its result or its traceback."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
    )  # fmt: skip
    os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')
    try:
        torch_dist.init_process_group(
            'gloo',
            init_method=f'file://{rendezvous}',
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=seconds),
        )
        send.send_bytes(pickle.dumps((True, fn(rank, *args))))
        torch_dist.barrier()
        torch_dist.destroy_process_group()
    except BaseException:
        send.send_bytes(pickle.dumps((False, traceback.format_exc())))
        os._exit(1)


def run_gloo(
    fn: Callable[..., Any], world_size: int = 2, *args: Any, timeout: float = 300
) -> list[Any]:
    """Calls ``fn(rank, *args)`` on several ranks with a gloo group around it.

    The processes come from a fork server that imported torch and mmengine once, so all but
    the first call start fast. mmengine's Runner works inside, given :func:`cpu_ranks`.

    Args:
        fn: a function at module level (it is pickled); its result must be picklable.
        world_size: number of ranks.
        *args: further arguments of ``fn``.
        timeout: seconds until all ranks must have answered; then they are ended.

    Returns:
        The results in rank order.

    Raises:
        RankError: a rank raised, died without an answer, or the time is up.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['torch', 'mmengine.runner', 'mmdistill.core'])
    answers: dict[int, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = str(Path(folder) / 'rendezvous')
        pipes, processes = {}, []
        for rank in range(world_size):
            receive, send = context.Pipe(duplex=False)
            process = context.Process(
                target=_rank_main,
                args=(send, fn, rank, world_size, rendezvous, timeout, args),
                daemon=True,
            )
            process.start()
            send.close()
            pipes[receive] = rank
            processes.append(process)
        try:
            _collect(pipes, answers, time.monotonic() + timeout)
            for process in processes:
                process.join(timeout)
        finally:
            for process in processes:
                process.kill()
                process.join()
    return [answers[rank] for rank in range(world_size)]


def _collect(pipes: dict[Connection, int], answers: dict[int, Any], deadline: float) -> None:
    """Reads one answer per rank; raises at the first bad one."""
    waiting = dict(pipes)
    while waiting:
        ready = wait(list(waiting), max(deadline - time.monotonic(), 0))
        if not ready:
            raise RankError(f'no answer in time from the ranks {sorted(waiting.values())}')
        for pipe in ready:
            rank = waiting.pop(pipe)
            try:
                good, value = pickle.loads(pipe.recv_bytes())
            except EOFError:
                raise RankError(f'rank {rank} died without an answer') from None
            if not good:
                raise RankError(f'rank {rank} raised:\n{value}')
            answers[rank] = value
