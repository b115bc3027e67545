"""The world of frames as data sets, with a tokenizer that has its words."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import CONTEXT, Frame
from mmkd.cobra.texts.templates import TEMPLATES, frame_template
from mmkd.cobra.world.draw import corpus, pairs
from mmkd.cobra.world.rules import frame, sayings, scenes
from mmkd.language.word_tokenizer import word_entries, word_tokenizer
from mmkd.registry import DATASETS, TASK_UTILS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KINDS = {'corpus': corpus, 'pairs': pairs}
_EVERY = 5


@DATASETS.register_module()
class WorldFrames:
    """Frames of the world.

    Args:
        split: ``train``, ``dev`` or ``test``; no statement is in two of them.
        count: of frames, or of pairs.
        kind: ``corpus``, or ``pairs`` of contexts that turn the effect of a statement round.
        seed: of everything.

    Raises:
        UserError: no such kind or split, or there are fewer frames.
    """

    def __init__(
        self, split: str = 'train', count: int = 1000, kind: str = 'corpus', seed: int = 0
    ) -> None:
        if kind not in KINDS:
            raise UserError(f'kind must be one of {list(KINDS)}, got {kind!r}')
        self.frames: list[Frame] = KINDS[kind](split, count, seed)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]


@lru_cache(maxsize=1)
def frame_world_entries() -> tuple[str, ...]:
    """All tokens: the words of all frames as the templates write them."""
    texts = []
    for saying in sayings():
        for scene in scenes(saying.family)[::_EVERY]:
            found = frame(saying, scene)
            texts += [*found.context().values(), *found.explanation().values(), saying.text]
            texts += [f' {each}' for each in found.explanation().values()]
    shown = frame(saying, scene)
    for name in TEMPLATES:
        template = frame_template(name)
        texts += [template.source(shown, ()), template.source(shown, CONTEXT)]
        texts.append(template.target(shown))
    return word_entries(texts)


def frame_world_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer for ``transformers``; what it decodes is what was encoded."""
    return word_tokenizer(frame_world_entries())


TASK_UTILS.register_module(name='FrameWorldTokenizer', module=frame_world_tokenizer)
