"""Errors that a user can mend, and one-line explanations of the hosts' errors."""

import difflib
from collections.abc import Iterable


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
