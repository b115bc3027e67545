"""Queries of the world: for training, and for tests of the same, longer and other problems."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from mmdistill.core.checkpoint_io import write_atomic
from mmdistill.core.errors import UserError, run_tool
from mmkd.reasoning.messages import world_messages
from mmkd.reasoning.world import FAMILIES, Split, make_problem, split_of
from mmkd.traces.hashing import seeded_number
from mmkd.traces.schema import Query

HELD_OUT = ('coins',)
"""Families that nothing is trained on."""
_IN_VAIN = 5000
"""Draws in a row that may give nothing new."""


@dataclass(frozen=True)
class Plan:
    """What a file of queries holds.

    Attributes:
        split: that the questions belong to.
        count: queries, spread evenly over the families.
        families: names.
        levels: of difficulty, each with the same probability.
        held_out_wording: whether all have the wording that is held out, or none.
        choices: share of questions that list options.
        system_ids: messages of ``world_messages.yaml`` to draw from; empty: all.
    """

    split: Split
    count: int
    families: tuple[str, ...]
    levels: tuple[int, ...] = (2, 3, 4)
    held_out_wording: bool = False
    choices: float = 0.5
    system_ids: tuple[int, ...] = ()


def plans(
    train: int, test: int, held_out: Sequence[str] = HELD_OUT, test_system: int = 5
) -> dict[str, Plan]:
    """Files by name: ``train``, ``dev``, ``test``, and three tests of what was not trained on.

    ``test_longer`` has levels 5 and 6, ``test_wording`` the wording that is held out, and
    ``test_family`` the families that are.

    Args:
        train: queries of ``train``.
        test: queries of each other file.
        held_out: families, in ``test_family`` alone.
        test_system: system message of all but ``train``.

    Raises:
        UserError: an unknown family or message, or no family is left.
    """
    for name in held_out:
        if name not in FAMILIES:
            raise UserError(f'held-out family {name!r} is not one of {", ".join(FAMILIES)}')
    known = world_messages().messages
    if test_system not in known:
        raise UserError(f'test_system must be one of {list(known)}, got {test_system}')
    seen = tuple(name for name in FAMILIES if name not in held_out)
    if not seen:
        raise UserError('all families are held out: leave some to train on')
    plain = Plan('test', test, seen, system_ids=(test_system,))
    found = dict(
        train=Plan('train', train, seen),
        dev=replace(plain, split='dev'),
        test=plain,
        test_longer=replace(plain, levels=(5, 6)),
        test_wording=replace(plain, held_out_wording=True),
    )
    if held_out:
        found['test_family'] = replace(plain, families=tuple(held_out))
    return found


def draw(plan: Plan, seed: int, name: str = 'queries') -> Iterator[Query]:
    """Queries of a plan, no two of them the same.

    Args:
        plan: what to draw.
        seed: another one gives others.
        name: first part of each ``source_uid``; another one gives others too.

    Raises:
        UserError: the families do not have as many.
    """
    for number, family in enumerate(plan.families):
        wanted = plan.count // len(plan.families) + (number < plan.count % len(plan.families))
        seen, vain, index = set(), 0, 0
        while len(seen) < wanted:
            query = _query(plan, family, seed, index, name)
            index += 1
            if query is not None and query.query_key not in seen:
                seen.add(query.query_key)
                vain = 0
                yield query
            elif (vain := vain + 1) > _IN_VAIN:
                raise UserError(
                    f'{name}: {family} has hardly more than {len(seen)} questions of levels '
                    f'{list(plan.levels)} in the split {plan.split}, {wanted} are wanted: lower '
                    'the count'
                )


def write_queries(folder: str | Path, files: dict[str, Plan], seed: int = 0) -> dict[str, int]:
    """Writes ``NAME.jsonl`` for every plan, one :class:`~mmkd.traces.schema.Query` a line.

    Args:
        folder: made where it is missing.
        files: plans by name.
        seed: of everything.

    Returns:
        Queries of every file.

    Raises:
        UserError: a plan wants more than there is.
    """
    counts = {}
    for name, plan in files.items():
        lines = [query.model_dump_json() + '\n' for query in draw(plan, seed, name)]
        content = ''.join(lines).encode()
        write_atomic(
            Path(folder) / f'{name}.jsonl', lambda file, content=content: file.write(content)
        )
        counts[name] = len(lines)
    return counts


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the files of queries."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('folder', help='where the files are written')
    parser.add_argument('--train', type=int, default=20000, help='queries to train on')
    parser.add_argument('--test', type=int, default=900, help='queries of each other file')
    parser.add_argument('--held-out', nargs='*', default=list(HELD_OUT), help='families')
    parser.add_argument('--test-system', type=int, default=5, help='message of all but train')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    files = plans(args.train, args.test, args.held_out, args.test_system)
    for name, count in write_queries(args.folder, files, args.seed).items():
        print(f'{count} queries are in {Path(args.folder) / name}.jsonl')


def _query(plan: Plan, family: str, seed: int, index: int, name: str) -> Query | None:
    """The query of an index, or None where it belongs to another split."""
    random = Random(seeded_number('world query', seed, f'{name} {family} {index}'))
    level, last = random.choice(plan.levels), len(FAMILIES[family].templates) - 1
    template = last if plan.held_out_wording else random.randrange(last)
    choices = random.random() < plan.choices
    problem = make_problem(
        family, seeded_number('world seed', seed, name), index, level, template, choices
    )
    if split_of(problem.core) != plan.split:
        return None
    messages = world_messages()
    allowed = messages.ids(family, choices)
    chosen = [each for each in allowed if not plan.system_ids or each in plan.system_ids]
    if not chosen:
        raise UserError(f'{name}: none of the system messages {plan.system_ids} suits {family}')
    system = random.choice(chosen)
    return Query(
        source_uid=f'{name}/{family}/{index}',
        sub_collection=family,
        task_name=f'{family}-{level}',
        template_type='zs_opt' if choices else 'zs_noopt',
        is_mc=choices,
        system_id=system,
        system_text=messages.messages[system].text,
        user_text=problem.question,
        target=problem.answer,
    )


if __name__ == '__main__':
    run_tool(main)
