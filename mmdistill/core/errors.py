"""Errors that a user can mend, and one-line explanations of the hosts' errors."""

import contextlib
import difflib
import inspect
import operator
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# calls that mmengine makes with a dict of the config: its name, and where the function is
_CALLS = {
    'Runner.set_randomness': ('randomness', 'mmengine.runner', 'Runner.set_randomness'),
    'DataLoader.__init__': ('the data loader', 'torch.utils.data', 'DataLoader'),
    'clip_grad_norm_': ('clip_grad', 'torch.nn.utils', 'clip_grad_norm_'),
    'clip_grad_value_': ('clip_grad', 'torch.nn.utils', 'clip_grad_value_'),
}


class UserError(ValueError):
    """Something in the config, the command line or the files is wrong.

    The message is complete by itself: it names the file, key or value and the remedy.
    ``tools/*.py`` print it as one line and end with status 2, without a traceback.
    """


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Suggests near names.

    Args:
        name: The name that is not known.
        known: The names that are.
        cutoff: Similarity in [0, 1] from which on a name counts as near.

    Returns:
        `` (did you mean 'a' or 'b'?)`` with a leading space, or an empty string.
    """
    near = difflib.get_close_matches(name, [str(k) for k in known], n=3, cutoff=cutoff)
    if not near:
        return ''
    return ' (did you mean ' + ' or '.join(f'{n!r}' for n in near) + '?)'


def explain(error: BaseException) -> str | None:
    """Turns the errors that mmengine raises for bad configs into one line.

    Args:
        error: Any exception.

    Returns:
        The line, or None for an error that deserves its traceback.
    """
    text = str(error)
    if isinstance(error, UserError):
        return text
    if isinstance(error, SyntaxError):
        return f'{error.filename}, line {error.lineno}: {error.msg}'
    if isinstance(error, FileNotFoundError):
        return f'{error.filename}: there is no such file' if error.filename else text
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f'{error.filename2 or error.filename}: {error.strerror}'
    unknown = re.search(r"(\S*)\(\) got an unexpected keyword argument '(\w+)'", text)
    if isinstance(error, TypeError) and unknown:
        owner, key = unknown.groups()
        owner, built = _called_by_mmengine(error, owner)
        if built is None:
            built = _class_being_built(error)
        if built is not None:
            near = did_you_mean(key, _parameters(built))
            owner = owner.removesuffix('.__init__')
            return f'unknown config key {key!r} for {owner}{near}: correct or remove it'
    if isinstance(error, KeyError) and 'registry' in text:
        return text.strip('\'"').split('. ')[0] + ': check its spelling, prefix and custom_imports'
    return None


def _class_being_built(error: BaseException) -> Any:
    """What a registry was building when a call without body frames failed, or None."""
    built, last, trace = None, '', error.__traceback__
    while trace is not None:
        last = trace.tb_frame.f_code.co_name
        if last == 'build_from_cfg':
            built = trace.tb_frame.f_locals.get('obj_cls')
        trace = trace.tb_next
    return built if last in ('build_from_cfg', '__init__') else None


def _called_by_mmengine(error: BaseException, name: str) -> tuple[str, Any]:
    """The config key whose dict went into a failed call of ``_CALLS``, and what was called."""
    last = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-2:]
    if name not in _CALLS or not any('mmengine' in f.f_code.co_filename for f in last):
        return name, None
    key, module, path = _CALLS[name]
    return key, operator.attrgetter(path)(sys.modules[module])


def _parameters(built: Any) -> set[str]:
    """Names of the arguments of a function, or of a class and its bases."""
    found = set()
    for owner in getattr(built, '__mro__', [built]):
        with contextlib.suppress(TypeError, ValueError):
            found |= set(inspect.signature(owner).parameters)
    return found - {'self', 'args', 'kwargs'}


def options_of(name: str, given: Mapping | None, defaults: Mapping) -> dict[str, Any]:
    """Defaults overridden by what is given.

    Args:
        name: config key of the options, for the message.
        given: what the user wrote; None is nothing.
        defaults: all known keys with their defaults.

    Raises:
        UserError: An unknown key; the message names it and the known ones.
    """
    for key in given or {}:
        if key not in defaults:
            raise UserError(
                f'{name}: unknown key {key!r}{did_you_mean(key, defaults)}; '
                f'known: {sorted(defaults)}'
            )
    return {**defaults, **(given or {})}


def run_tool(main: Callable[[], None]) -> None:
    """Runs the ``main`` of a command line tool.

    Errors that a user can mend come out as one line and status 2, others as a traceback.
    ``MMDISTILL_TRACEBACK=1`` shows the traceback of all of them.

    Args:
        main: The function to run.
    """
    try:
        main()
    except Exception as error:
        line = explain(error)
        if line is None or os.environ.get('MMDISTILL_TRACEBACK'):
            raise
        rank = os.environ.get('RANK', '0')
        print(f'error{"" if rank == "0" else f" (rank {rank})"}: {line}', file=sys.stderr)
        sys.exit(2)
