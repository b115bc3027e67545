"""Trajectories from and for the ``replay_buffer_{n}.pt`` of MTT, FTD and DATM.

Such a file (arXiv:2203.11932, arXiv:2211.11004, arXiv:2310.05773) is a list of experts, each a list
of E+1 snapshots, each a list of tensors in the order of ``network.parameters()``. It has neither
names nor settings nor running statistics.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError
from mmkd.experts.flat_network import FlatNetwork
from mmkd.experts.store import TrajectoryStore

Expert = list[list[Tensor]]


def import_buffers(
    files: Sequence[Path], folder: str | Path, network: nn.Module, about: Mapping[str, Any]
) -> TrajectoryStore:
    """Copies experts of replay buffers into a store; all files are checked first.

    An import that was killed goes on with the experts that are not finished.

    Args:
        files: in the order that experts are numbered in.
        folder: of the store.
        network: whose parameters the files hold.
        about: what the trajectories depend on, see :class:`TrajectoryStore`.

    Returns:
        The store, all experts finished.

    Raises:
        UserError: a file that cannot be read or does not fit the network, a network with running
            statistics, a store with other experts, or one that another process is importing into.
    """
    flat = FlatNetwork(network)
    if any(getattr(each, 'running_mean', None) is not None for each in network.modules()):
        raise UserError(
            f'{type(network).__name__} has running statistics, which replay buffers lack: '
            'train its experts here'
        )
    epochs, experts = -1, 0
    for path in files:
        for number, expert in enumerate(_load(path)):
            epochs = len(expert) - 1 if epochs < 0 and isinstance(expert, list) else epochs
            _check(expert, flat, epochs, f'{path}: expert {number}')
            experts += 1
    if not experts:
        raise UserError('there are no experts to import: name replay_buffer files with some')
    sizes = (experts, epochs, flat.size, flat.buffer_size, flat.names, flat.shapes)
    store = TrajectoryStore.create_or_open(folder, about, *sizes)
    number = 0
    for path in files:
        for expert in _load(path):
            _copy(store, number, expert, flat.buffers(), path)
            number += 1
    return store


def _load(path: str | Path) -> list[Expert]:
    """Experts of a file; their numbers are read when they are asked for, if the file allows it."""
    try:
        content = torch.load(
            str(path), map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except FileNotFoundError as error:
        raise UserError(f'{path}: there is no such file') from error
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f'{path}: damaged, or no replay buffer: {said}') from error
    if not isinstance(content, list):
        raise UserError(f'{path}: a list of experts is expected, got {type(content).__name__}')
    return content


def _check(expert: Expert, flat: FlatNetwork, epochs: int, where: str) -> None:
    """Compares an expert with the network and with the number of epochs."""
    if not isinstance(expert, list) or len(expert) < 2:
        raise UserError(f'{where} is no list of at least two snapshots')
    if len(expert) != epochs + 1:
        raise UserError(f'{where} has {len(expert)} snapshots, the first expert {epochs + 1}')
    for epoch, snapshot in enumerate(expert):
        place = f'{where}, snapshot {epoch}'
        if not isinstance(snapshot, (list, tuple)) or len(snapshot) != len(flat.names):
            count = len(snapshot) if isinstance(snapshot, (list, tuple)) else 'no list of'
            raise UserError(
                f'{place}: {count} parameters, the network has {len(flat.names)}; name the '
                'network that the experts have'
            )
        for number, (each, name, shape) in enumerate(
            zip(snapshot, flat.names, flat.shapes, strict=True)
        ):
            found = (getattr(each, 'dtype', type(each)), tuple(getattr(each, 'shape', ())))
            if found != (torch.float32, tuple(shape)):
                raise UserError(
                    f'{place}, parameter {number} ({name}): {found[0]} {found[1]}, the network '
                    f'has {torch.float32} {tuple(shape)}; name the network that the experts have'
                )
    if _same(_flat(expert[0]), _flat(expert[-1])):
        raise UserError(
            f'{where}: the first and the last snapshot are the same, it was not trained or the '
            'snapshots were not copied'
        )


def _flat(snapshot: Sequence[Tensor]) -> Tensor:
    """Parameters ``(P,)``."""
    return torch.cat([each.detach().reshape(-1) for each in snapshot])


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether all bits are equal."""
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def _copy(
    store: TrajectoryStore, number: int, expert: Expert, buffers: Tensor, path: str | Path
) -> None:
    """Writes an expert; one that is finished must be the same."""
    with store.claim(number) as mine:
        if mine:
            for epoch, snapshot in enumerate(expert):
                store.write(number, epoch, _flat(snapshot), buffers)
            store.finish(number)
    if number not in store.finished():
        raise UserError(
            f'{store.folder}: another process writes expert {number}; import again when it is done'
        )
    if not _same(store.snapshot(number, store.epochs)[0], _flat(expert[-1])):
        raise UserError(
            f'{store.folder}: expert {number} is another one than that of {path}; name another '
            'folder'
        )


def export_buffers(store: TrajectoryStore, folder: str | Path, per_file: int = 10) -> list[Path]:
    """Writes all experts of a store as replay buffers; running statistics are left out.

    Args:
        store: all experts finished, with the shapes of parameters.
        folder: gets ``replay_buffer_0.pt`` and so on; has none yet.
        per_file: experts of a file, which is held in memory; the last file may have fewer.

    Returns:
        The files.

    Raises:
        UserError: unfinished experts, no shapes, a folder with replay buffers, or a full disk.
    """
    folder = Path(folder)
    if per_file < 1:
        raise UserError(f'per_file must be at least 1, got {per_file}')
    if left := store.unfinished():
        raise UserError(
            f'{store.folder}: experts {left} are not finished; run their training again'
        )
    if not store.shapes:
        raise UserError(f'{store.folder} has no shapes of parameters, which replay buffers need')
    if any(folder.glob('replay_buffer_*.pt')):
        raise UserError(f'{folder} has replay buffers: name another folder, or remove them')
    written = []
    for first in range(0, store.experts, per_file):
        some = range(first, min(first + per_file, store.experts))
        content = [
            [_tensors(store, expert, epoch) for epoch in range(store.epochs + 1)] for expert in some
        ]
        path = folder / f'replay_buffer_{len(written)}.pt'
        _save(content, path)
        written.append(path)
    return written


def _tensors(store: TrajectoryStore, expert: int, epoch: int) -> list[Tensor]:
    """Parameters of a snapshot, each with memory of its own."""
    theta, _ = store.snapshot(expert, epoch)
    shapes = [torch.Size(shape) for shape in store.shapes]
    parts = theta.split([shape.numel() for shape in shapes])
    return [part.view(shape).clone() for part, shape in zip(parts, shapes, strict=True)]


def _save(content: list[Expert], path: Path) -> None:
    """Publishes a file that is whole."""
    try:
        write_atomic(path, lambda file: torch.save(content, file))
    except (OSError, RuntimeError) as error:
        raise UserError(f'{path} cannot be written: {error}') from error
