"""What a forward pass of a Transformer tells, and what it is told in return."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from torch import Tensor

KINDS = ('scores', 'maps', 'contexts', 'outputs', 'joined', 'hidden')


class Observer:
    """Listens to a forward pass; what its methods return is what the pass goes on with.

    B batch, n tokens, d width, H heads; layers count from 0. This one changes nothing.
    """

    def hidden(self, index: int, values: Tensor) -> None:
        """Input of the first layer (0) and results of all layers (1 ... L), ``(B, n, d)``."""

    def attention_input(self, layer: int, values: Tensor) -> Tensor:
        """What queries, keys and values are made of, ``(B, n, d)``."""
        return values

    def query_key_input(self, layer: int, values: Tensor) -> Tensor:
        """The same once more, for queries and keys alone."""
        return values

    def scores(self, layer: int, values: Tensor) -> None:
        """Scaled and masked scores (AS), ``(B, H, n, n)``."""

    def attention_map(self, layer: int, values: Tensor) -> Tensor:
        """Softmax of the scores (SA), before dropout, ``(B, H, n, n)``."""
        return values

    def context(self, layer: int, values: Tensor) -> Tensor:
        """Weighted values (AC), ``(B, H, n, d / H)``."""
        return values

    def output(self, layer: int, values: Tensor) -> Tensor:
        """Projected context (AO), before dropout and sum, ``(B, n, d)``."""
        return values

    def joined(self, layer: int, values: Tensor) -> None:
        """Sum of attention output and input, normed where the norm comes last (ATT)."""


@dataclass
class Signals:
    """Tensors of a forward pass by kind, one per layer; ``hidden`` has one more.

    Attributes:
        scores: see :class:`Observer`.
        maps: see :class:`Observer`.
        contexts: see :class:`Observer`.
        outputs: see :class:`Observer`.
        joined: see :class:`Observer`.
        hidden: see :class:`Observer`.
        logits: of the head.
    """

    scores: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    contexts: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    joined: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    logits: Tensor | None = None


class Recorder(Observer):
    """Notes some kinds of tensors, as the network computes them.

    Args:
        kinds: of :data:`KINDS`.
    """

    def __init__(self, kinds: Collection[str] = KINDS) -> None:
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise ValueError(f'unknown kind of signal {unknown[0]!r}; known: {KINDS}')
        self.kinds = frozenset(kinds)
        self.signals = Signals()

    def _note(self, kind: str, values: Tensor) -> None:
        if kind in self.kinds:
            getattr(self.signals, kind).append(values)

    def hidden(self, index: int, values: Tensor) -> None:
        """Noted."""
        self._note('hidden', values)

    def scores(self, layer: int, values: Tensor) -> None:
        """Noted."""
        self._note('scores', values)

    def attention_map(self, layer: int, values: Tensor) -> Tensor:
        """Noted."""
        self._note('maps', values)
        return values

    def context(self, layer: int, values: Tensor) -> Tensor:
        """Noted."""
        self._note('contexts', values)
        return values

    def output(self, layer: int, values: Tensor) -> Tensor:
        """Noted."""
        self._note('outputs', values)
        return values

    def joined(self, layer: int, values: Tensor) -> None:
        """Noted."""
        self._note('joined', values)


_observer: ContextVar[Observer | None] = ContextVar('observer', default=None)


@contextmanager
def observed_by(observer: Observer | None) -> Iterator[None]:
    """Networks tell this observer while the context is open; passes inside passes do not mix."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def current_observer() -> Observer | None:
    """The observer of the running pass, None without one."""
    return _observer.get()
