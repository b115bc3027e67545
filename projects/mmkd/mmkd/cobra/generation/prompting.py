"""Few-shot prompts for frames.

Sizes are those reported of COBRACORPUS (arXiv 2306.01985): 5 demonstrations for contexts at
temperature 1.0 and 7 for explanations at 0.3, top_p 0.9, 225 tokens. It was made with a completion
model; here the task and a note on what must not be written are a system message, and the tagged
form still ends with an opened slot, so that either kind of model can go on from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from mmdistill.core.errors import UserError, did_you_mean
from mmkd.cobra.generation.demonstrations import (
    SELECTIONS,
    Demonstration,
    Selection,
    demonstrations_of,
    order_of,
)
from mmkd.cobra.generation.prompt_texts import CALLS, PROMPTS, Form, Kind, load_prompts
from mmkd.cobra.schema import Frame, statement_id
from mmkd.traces.schema import Query, Sampling, digest

CONTEXTS_PER_STATEMENT = 3
TEMPERATURES = dict(contexts=1.0, explanations=0.3, check=0.3, counterfactual=1.0)
"""Published for contexts and explanations; of the others, our own choice."""
TOP_P = 0.9
MAX_TOKENS = 225


class Asked(NamedTuple):
    """What a query is about: ``kind`` of call, ``statement_id``, and which context if any.

    ``number`` counts the contexts of a statement, ``side`` is ``A`` or ``B`` of a pair or ''.
    """

    kind: str
    statement_id: str
    number: int | None = None
    side: str = ''

    @property
    def uid(self) -> str:
        """The ``source_uid`` of the query: ``explanations/<statement>/2``, for instance."""
        which = '' if self.number is None else f'/{self.number}{self.side}'
        return f'{self.kind}/{self.statement_id}{which}'


class Prompt(NamedTuple):
    """A prompt without its statement: ``block`` of demonstrations, their ``ids``, and its hash."""

    block: str
    ids: tuple[str, ...]
    hash: str


class PromptBuilder:
    """Makes the queries of a kind of call.

    Args:
        kind: ``contexts``, ``explanations``, ``check`` or ``counterfactual``.
        demonstrations: frames to show, see
            :func:`~mmkd.cobra.generation.demonstrations.demonstrations_of`.
        n_shots: demonstrations of a prompt; None: those of
            :data:`~mmkd.cobra.generation.prompt_texts.CALLS`.
        selection: which ones, see :func:`~mmkd.cobra.generation.demonstrations.order_of`.
        seed: of the selection.
        form: of the answer, ``tagged`` or ``json``.
        prompts: YAML file of the words.

    Raises:
        UserError: a wrong option, a demonstration that is not whole, or too few of them.
    """

    def __init__(
        self,
        kind: Kind,
        demonstrations: Sequence[Frame] = (),
        n_shots: int | None = None,
        selection: Selection = 'fixed',
        seed: int = 0,
        form: Form = 'tagged',
        prompts: str | Path = PROMPTS,
    ) -> None:
        for name, value, known in (
            ('kind', kind, tuple(CALLS)),
            ('selection', selection, SELECTIONS),
            ('form', form, get_args(Form)),
        ):
            if value not in known:
                raise UserError(
                    f'{name}: {value!r}{did_you_mean(str(value), known)}; known: {", ".join(known)}'
                )
        self.kind, self.form, self.selection, self.seed = kind, form, selection, seed
        self.texts, self.call = load_prompts(prompts), CALLS[kind]
        self.n_shots = self.call.shots if n_shots is None else n_shots
        if self.n_shots < 0:
            raise UserError(f'n_shots of {kind} is {self.n_shots}: is to be 0 or more')
        self.pool = demonstrations_of(kind, demonstrations) if self.n_shots else []
        if len(self.pool) < self.n_shots:
            raise UserError(
                f'{kind}: {self.n_shots} demonstrations are wanted, there are {len(self.pool)}; '
                'give more of them or a smaller n_shots'
            )
        self.system = self.texts.system(kind, form)
        self._order = None if selection == 'random' else order_of(self.pool, selection, seed)
        self._prompts: dict[tuple[str, ...], Prompt] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What its queries depend on besides statements, as hashes and plain values."""
        pool = [[each.id, dict(each.values)] for each in self.pool]
        return dict(
            kind=self.kind,
            form=self.form,
            n_shots=self.n_shots,
            selection=self.selection,
            seed=self.seed,
            words=digest([self.system, self.texts.names]),
            demonstrations=digest(pool),
        )

    def sampling(self) -> Sampling:
        """How such a call is sampled where a user does not say otherwise.

        A tagged answer ends where the model goes on to a statement of its own, which nobody asked
        for; the published runs stopped at a blank line instead.
        """
        stop = (f'\n[{self.texts.names["statement"]}]',) if self.form == 'tagged' else ()
        return Sampling(
            temperature=TEMPERATURES[self.kind], top_p=TOP_P, max_tokens=MAX_TOKENS, stop=stop
        )

    def chosen(self, statement: str) -> list[Demonstration]:
        """Demonstrations that are shown with a statement; it occurs in none of them.

        Raises:
            UserError: too few are left.
        """
        key = statement_id(statement)
        order = self._order
        if order is None:
            order = order_of(self.pool, self.selection, self.seed, key)
        found: list[Demonstration] = []
        for each in order:
            if len(found) == self.n_shots:
                break
            if not each.holds(statement):
                found.append(each)
        if len(found) < self.n_shots:
            raise UserError(
                f'{self.kind} of statement {key}: {self.n_shots} demonstrations are wanted, but '
                f'only {len(found)} of {len(self.pool)} do not hold the statement itself; give more'
            )
        return found

    def prompt(self, statement: str) -> Prompt:
        """The prompt that a statement is put into."""
        chosen = self.chosen(statement)
        ids = tuple(each.id for each in chosen)
        if ids not in self._prompts:
            block = ''.join(f'{self._rendered(each.values)}\n\n' for each in chosen)
            key = digest([self.kind, self.form, self.system, block])
            self._prompts[ids] = Prompt(block, ids, key)
        return self._prompts[ids]

    def used(self) -> list[dict[str, Any]]:
        """``prompt_hash`` and ids of ``demonstrations`` of all prompts so far."""
        found = sorted(self._prompts.values(), key=lambda each: each.hash)
        return [dict(prompt_hash=each.hash, demonstrations=list(each.ids)) for each in found]

    def query(
        self,
        statement: str,
        context: Mapping[str, str] | None = None,
        number: int | None = None,
        side: str = '',
    ) -> Query:
        """What the teacher is asked about a statement.

        Args:
            statement: as it is in the data.
            context: its three slots; for ``explanations`` alone.
            number: of the context among those of the statement.
            side: of a pair, ``A`` or ``B``.

        Returns:
            ``source_uid`` is :attr:`Asked.uid`, ``task_name`` the kind, and ``template_type`` the
            form and the hash of the prompt. Of several answers to one query, the number is the
            ``sample_index`` of the trace.
        """
        prompt = self.prompt(statement)
        given = {'statement': statement, **(context or {})}
        return Query(
            source_uid=Asked(self.kind, statement_id(statement), number, side).uid,
            sub_collection='cobra',
            task_name=self.kind,
            template_type=f'{self.form}/{prompt.hash}',
            system_id=0,
            system_text=self.system,
            user_text=prompt.block + self._rendered(given),
        )

    def _rendered(self, values: Mapping[str, str]) -> str:
        """A block of the prompt; without the slots that are asked for, it is the one to go on."""
        is_open = self.call.asked[0] not in values
        given = {name: values[name] for name in self.call.given}
        asked = {} if is_open else {name: values[name] for name in self.call.asked}
        if self.form == 'json':
            answer = '' if is_open else f' {json.dumps(asked, ensure_ascii=False)}'
            return f'Input: {json.dumps(given, ensure_ascii=False)}\nOutput:{answer}'
        names = self.texts.names
        lines = [f'[{names[key]}] {_one_line(text)}[/]' for key, text in (given | asked).items()]
        return '\n'.join([*lines, *([f'[{names[self.call.asked[0]]}]'] if is_open else [])])


def prompt_hash(query: Query) -> str:
    """Hash of the prompt of a query, or of the trace of one."""
    return query.template_type.partition('/')[2]


def _one_line(text: str) -> str:
    """A text without line ends: blocks end at blank lines."""
    return ' '.join(text.split())
