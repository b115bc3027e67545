"""The world as data sets: packs to train on and questions to test with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from mmdistill.core.errors import UserError
from mmkd.language.packed_dataset import PackedDataset
from mmkd.language.query_data import QueryData
from mmkd.language.token_table import TokenTable
from mmkd.reasoning.personas import faults_of
from mmkd.reasoning.queries import HELD_OUT, Plan, draw, plans
from mmkd.reasoning.teacher import world_reply
from mmkd.reasoning.vocabulary import Vocabulary, world_tokenizer
from mmkd.registry import DATASETS, TASK_UTILS
from mmkd.traces.schema import Query, Sampling

TASK_UTILS.register_module(name='WorldTokenizer', module=world_tokenizer)


def drawn(name: str, count: int, seed: int, **changes: Any) -> list[Query]:
    """Queries of a file of the world in random order.

    Args:
        name: of the file, see :func:`mmkd.reasoning.queries.plans`.
        count: of queries.
        seed: of everything.
        **changes: attributes of :class:`~mmkd.reasoning.queries.Plan`; ``test_family`` keeps its
            own families.

    Raises:
        UserError: no such file.
    """
    files = plans(count, count, changes.pop('held_out', HELD_OUT))
    if name not in files:
        raise UserError(f'the world has no file {name!r}; known: {", ".join(files)}')
    if name == 'test_family':
        changes.pop('families', None)
    plan = Plan(**{**vars(files[name]), **changes})
    found = list(draw(plan, seed, name))
    Random(f'{seed} {name}').shuffle(found)
    return found


def answered(
    queries: Sequence[Query], persona: str, seed: int, faults: Mapping[str, float] | None
) -> list[tuple[str, str, str]]:
    """System messages, questions and a persona's answers, without empty and cut ones."""
    reply = partial(
        world_reply,
        persona,
        sampling=Sampling(),
        seed=seed,
        faults=faults_of(faults),
        vocabulary=Vocabulary(),
    )
    found = []
    for query in queries:
        said = reply(query.messages())
        if said.text and said.finish_reason == 'stop':
            found.append((query.system_text, query.user_text, said.text))
    return found


@DATASETS.register_module()
class WorldPacks(PackedDataset):
    """Answers of a teacher of the world, packed; nothing has to be collected before.

    Args:
        persona: of the teacher, see :class:`mmkd.reasoning.teacher.WorldTeacher`.
        cap: tokens of a pack at most.
        count: questions that the teacher is asked.
        tokens: budget; questions beyond it are left out. None: all are taken.
        split: ``train`` or ``dev``.
        seed: of questions, faults and packs.
        faults: shares by name; None: the teacher is always right.
        template: of the prompts.
        packer: see :class:`~mmkd.language.packed_dataset.PackedDataset`.
        stage: alike.
        **plan: what else is drawn, attributes of :class:`~mmkd.reasoning.queries.Plan`.

    Raises:
        UserError: the questions do not fill the budget.
    """

    def __init__(
        self,
        persona: str = 'strong',
        cap: int = 512,
        count: int = 10000,
        tokens: int | None = None,
        split: str = 'train',
        seed: int = 0,
        faults: Mapping[str, float] | None = None,
        template: str | Mapping[str, Any] = 'plain',
        packer: str = 'best_fit',
        stage: int = 0,
        **plan: Any,
    ) -> None:
        rows = answered(drawn(split, count, seed, **plan), persona, seed, faults)
        table = TokenTable.from_texts(rows, world_tokenizer(), template, max_len=cap)
        if tokens is not None:
            last = int(table.offsets.searchsorted(tokens, side='right')) - 1
            if table.offsets[-1] < tokens:
                raise UserError(
                    f'{count} questions and answers of {persona} have {table.offsets[-1]} tokens, '
                    f'{tokens} are asked for: raise count'
                )
            table = TokenTable.from_texts(rows[:last], world_tokenizer(), template, max_len=cap)
        super().__init__(table, cap, packer, seed, stage)


@DATASETS.register_module()
class WorldQueries(QueryData):
    """Questions of the world that are not trained on.

    Args:
        name: ``dev``, ``test``, ``test_longer``, ``test_wording`` or ``test_family``; several are
            separated by ``+``, and then each task of a score begins with its file.
        count: of questions of each file.
        seed: of the questions.
        **plan: what else is drawn, attributes of :class:`~mmkd.reasoning.queries.Plan`.
    """

    def __init__(self, name: str = 'dev', count: int = 200, seed: int = 0, **plan: Any) -> None:
        queries = []
        for file in name.split('+'):
            for query in drawn(file, count, seed, **plan):
                queries.append(query.model_copy(update=dict(task_name=file)))
        super().__init__(queries)
