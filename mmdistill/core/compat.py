"""Differences between releases of torch and mmengine; nothing else in the core asks for versions.

Since torch 2.6 ``torch.load`` reads weights only, and mmengine cannot load the checkpoints
it writes itself. The allow-list here names what they hold, so that they load and resume
while a file that wants to run anything else is still refused. What is changed in the
libraries, why, and until when, stands in ``PATCHES``.
"""

import contextlib
import errno
import os
import pickle
import re
import struct
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmdistill.core.checkpoint_io import read_record, why_invalid
from mmdistill.core.errors import UserError


@dataclass(frozen=True)
class Patch:
    """A change to a library.

    Args:
        what: The thing that is replaced or extended.
        defect: What is wrong with it.
        until: The release that makes the patch needless.
    """

    what: str
    defect: str
    until: str


PATCHES = (
    Patch(
        what='torch.serialization.add_safe_globals',
        defect='mmengine 0.10.7 puts HistoryBuffer, numpy arrays and scalars, and ConfigDict into '
        'checkpoints and does not declare them to torch >= 2.6, so it cannot load them',
        until='the first mmengine that declares its own safe globals',
    ),
    Patch(
        what="mmengine.runner.CheckpointLoader scheme ''",
        defect='mmengine 0.10.7 calls torch.load without weights_only: unsafe before torch 2.6, '
        'after it a long message that names neither the file nor a remedy of ours',
        until='the first mmengine that passes weights_only=True and names the file',
    ),
    Patch(
        what='mmengine.runner.checkpoint.load_url',
        defect='torch.hub.load_state_dict_from_url unpickles anything from the network '
        '(weights_only=False by default, torch 2.12)',
        until='the first torch whose torch.hub loads weights only by default',
    ),
    Patch(
        what="mmengine.registry.OPTIMIZERS 'Adafactor' (see light_optim.py)",
        defect='mmengine 0.10.7 imports the trainer of transformers to register one optimizer: '
        'seconds at every start',
        until='the first mmengine that registers it without importing transformers',
    ),
)

_METHODS = {
    HistoryBuffer: ('min', 'max', 'mean', 'current'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}
_DAMAGE = (EOFError, struct.error, IndexError, KeyError, AssertionError, UnicodeDecodeError)
_trusting: ContextVar[bool] = ContextVar('mmdistill_trust_checkpoints', default=False)


class UnsafeCheckpointError(UserError):
    """A checkpoint holds a pickle that wants more than data; nothing of it was executed."""


class UnreadableCheckpointError(UserError):
    """A checkpoint is truncated, empty or no checkpoint at all."""


def _listed_method(owner: type, name: str) -> Callable:
    """Stands in for ``getattr`` in checkpoints: finds the methods of ``_METHODS``, no more.

    Python pickles ``HistoryBuffer.mean`` as a call of ``getattr``. Allowing the real one
    would give a checkpoint every attribute of every allowed class.

    Args:
        owner: ``HistoryBuffer`` (its statistics) or ``OneCycleParamScheduler`` (its curves).
        name: Name of the method.

    Raises:
        pickle.UnpicklingError: Anything else was asked for.
    """
    if name not in _METHODS.get(owner, ()):
        place = getattr(owner, '__qualname__', type(owner).__qualname__)
        raise pickle.UnpicklingError(f'Unsupported global: GLOBAL {place}.{name} was not allowed')
    return getattr(owner, name)


def safe_globals() -> list[tuple[Any, str]]:
    """Lists the globals in mmengine's checkpoints, with the names under which they are pickled."""
    multiarray = np.array(0).__reduce__()[0].__module__  # numpy._core since 2.0
    reconstruct, scalar = np.array(0).__reduce__()[0], np.float64(0).__reduce__()[0]
    listed: list[tuple[Any, str]] = [
        (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (ConfigDict, 'mmengine.config.config.ConfigDict'),
        (
            OneCycleParamScheduler,
            'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler',
        ),
        (_listed_method, 'builtins.getattr'),
        (bytes, 'builtins.bytes'),  # how pickle writes b'', the data of an empty array
        (np.ndarray, 'numpy.ndarray'),
        (np.dtype, 'numpy.dtype'),
        (OrderedDict, 'collections.OrderedDict'),
        (defaultdict, 'collections.defaultdict'),
        (deque, 'collections.deque'),
    ]
    for module in {multiarray, 'numpy._core.multiarray', 'numpy.core.multiarray'}:
        listed += [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
    kinds = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith('DType')]
    return listed + [(kind, f'numpy.dtypes.{kind.__name__}') for kind in kinds]


def allow_mmengine_globals() -> None:
    """Makes mmengine load its own checkpoints with ``weights_only``, and refuse others clearly.

    Call it once before a Runner is made; more calls do nothing. See ``PATCHES``.

    Raises:
        RuntimeError: torch is older than 2.6 and cannot tell safe globals by name.
    """
    if not hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint'):
        raise RuntimeError(
            f'torch {torch.__version__} cannot load checkpoints safely; 2.6 or newer is needed'
        )
    torch.serialization.add_safe_globals(safe_globals())
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    if mmengine_checkpoint.load_url is not load_from_url:
        mmengine_checkpoint.load_url = load_from_url


@contextlib.contextmanager
def trust_checkpoints(trust: bool = True) -> Iterator[None]:
    """Loads checkpoints without restriction inside the block: the opt-out ``--trust-checkpoint``.

    Args:
        trust: False makes the block an ordinary one, so that a flag can be passed on.
    """
    token = _trusting.set(trust)
    try:
        yield
    finally:
        _trusting.reset(token)


def safe_load(path: str | os.PathLike, map_location: Any = 'cpu', trust: bool = False) -> Any:
    """Loads a checkpoint file that may hold tensors and plain data, no code.

    Args:
        path: The file.
        map_location: As for ``torch.load``.
        trust: Run whatever the file asks for. Only for files whose maker you trust.

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpointError: The file wants something that is not on the allow-list.
        UnreadableCheckpointError: The file is damaged, or its own checksum says so.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'{path}: there is no such checkpoint')
    with open(path, 'rb') as stream:
        head = stream.read(1)
    if head not in (b'P', b'\x80'):  # a zip archive, or a bare pickle as torch < 1.6 wrote it
        raise UnreadableCheckpointError(_damaged(path, 'empty' if not head else 'unknown format'))
    if read_record(path) is not None and (reason := why_invalid(path)):
        raise UnreadableCheckpointError(_damaged(path, reason))
    trust = trust or _trusting.get()
    if not trust:
        allow_mmengine_globals()
    with _clear_errors(path):
        return torch.load(path, map_location=map_location, weights_only=not trust)


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Loads a local file for mmengine's ``CheckpointLoader``; see ``safe_load``."""
    return safe_load(filename, map_location)


def load_from_url(url: str, *args: Any, **kwargs: Any) -> Any:
    """Loads a checkpoint from the network for mmengine, weights only unless trusted.

    Args:
        url: The address.
        *args: As for ``torch.hub.load_state_dict_from_url``.
        **kwargs: Likewise.

    Raises:
        UnsafeCheckpointError: The file wants something that is not on the allow-list.
        UnreadableCheckpointError: The file is damaged.
    """
    kwargs['weights_only'] = not _trusting.get()
    with _clear_errors(url):
        return torch.hub.load_state_dict_from_url(url, *args, **kwargs)


@contextlib.contextmanager
def _clear_errors(source: str | Path) -> Iterator[None]:
    """Turns torch's errors about a checkpoint into one line that names the file."""
    try:
        yield
    except pickle.UnpicklingError as error:
        text = str(error)
        asked = refused_global(text)
        if asked is None:
            raise UnreadableCheckpointError(_damaged(source, text)) from error
        raise UnsafeCheckpointError(
            f'{source}: refused, its pickle asks for {asked}, which is no plain data; nothing of '
            'it was run. If you trust whoever made the file, load it with --trust-checkpoint'
        ) from error
    except RuntimeError as error:
        if not re.search('PytorchStreamReader|unexpected EOF|corrupt|protocol version', str(error)):
            raise
        raise UnreadableCheckpointError(_damaged(source, str(error))) from error
    except (*_DAMAGE, OSError) as error:
        # torch seeks to a place before the file for some truncated ones below 64 KiB
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise UnreadableCheckpointError(_damaged(source, repr(error))) from error


def _damaged(source: str | Path, text: str) -> str:
    reason = (text.strip().splitlines() or ['it is empty'])[0][:160]
    return f'{source}: damaged or no checkpoint ({reason}); take another file'


def refused_global(message: str) -> str | None:
    """Finds in torch's error message what a checkpoint was refused for.

    Args:
        message: Text of an ``UnpicklingError``.

    Returns:
        The global's name, or None when the error is about something else.
    """
    for pattern in (
        r'GLOBAL (\S+)',
        r'unrecognized function (.+?)(?: which|$|\n)',
        r'(?:object|Tensor)[^.]* but got (.+)',
        r'(Unsupported operand \d+)',
    ):
        found = re.search(pattern, message)
        if found:
            return found[1].strip()
    return None
