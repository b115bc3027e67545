"""Errors that a user can mend, and one-line explanations of the hosts' errors."""

import contextlib
import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any


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
    unknown = re.search(r"(\S*)\(\) got an unexpected keyword argument '(\w+)'", text)
    built = _class_being_built(error) if isinstance(error, TypeError) and unknown else None
    if built is not None:
        owner, key = unknown.group(1).removesuffix('.__init__'), unknown.group(2)
        near = did_you_mean(key, _parameters(built))
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


def _parameters(built: Any) -> set[str]:
    """Names of the arguments of a function, or of a class and its bases."""
    found = set()
    for owner in getattr(built, '__mro__', [built]):
        with contextlib.suppress(TypeError, ValueError):
            found |= set(inspect.signature(owner).parameters)
    return found - {'self', 'args', 'kwargs'}


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
