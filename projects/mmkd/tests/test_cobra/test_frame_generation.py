"""Generations: unique rows after kills, nothing asked twice, and what is told of refusals."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from frame_teachers import demonstrations, explained, forked, rows_of, wait_for

from mmdistill.core.errors import UserError
from mmkd.cobra.generation.demonstrations import words_of
from mmkd.cobra.generation.options import Options, read_options
from mmkd.cobra.generation.pipeline import Generation
from mmkd.cobra.schema import CONTEXT, SLOTS, statement_id
from mmkd.cobra.tables.statements import Statement, read_statements
from mmkd.collection.shards import Shard

POOL = demonstrations()


def statements(count, first=0, word='', group=None):
    """Different remarks."""
    numbers = range(first, first + count)
    return [Statement(f'Thanks for the help {n}{word}.', group, 'notes') for n in numbers]


@pytest.fixture
def made(tmp_path):
    """Makes generations in one run directory, with one log of calls."""

    def make(texts, rules=None, options=None, base=None, pool=POOL, seconds=0.0, **others):
        teacher = dict(type='ScriptedFrameTeacher', log=str(tmp_path / 'log'), rules=rules)
        base = dict(teacher={**teacher, 'seconds': seconds}, **(base or {}))
        options = Options(**(options or {}))
        return Generation(base, texts, pool, tmp_path / 'run', options, **others)

    make.calls = lambda: Counter((tmp_path / 'log').read_text().split())
    make.run_dir = tmp_path / 'run'
    return make


def run(generation, **options):
    """Runs in silence."""
    return generation.run(say=lambda line: None, **options)


def test_three_contexts_of_each_statement_are_explained_once(made):
    texts = statements(8)
    assert run(made(texts)) == 'done'
    assert made.calls() == dict(contexts=24, explanations=24)
    frames = made(texts).frames()
    assert [each.statement for each in frames] == [each.text for each in texts for _ in range(3)]
    assert len({each.frame_id for each in frames}) == 24
    for each in frames:
        assert not each.missing((*CONTEXT, *SLOTS)) and each.source == 'notes'
        assert each.statement_id == statement_id(each.statement)
        assert all(value.startswith(f'{slot} ') for slot, value in each.explanation().items())
        assert each.label_majority is each.offensive_bin is each.pair_id is None
    assert run(made(texts)) == 'done' and made.calls().total() == 48, 'no call at all'
    assert made(texts).frames() == frames


def test_frames_tell_of_both_calls(made):
    generation = made(statements(2))
    run(generation)
    first, last = (
        {each['prompt_hash']: each['demonstrations'] for each in told}
        for told in (
            map(json.loads, (stage.folder / 'prompts/demonstrations.jsonl').open())
            for stage in generation.stages
        )
    )
    for frame in generation.frames():
        told = frame.provenance
        assert (told.model, told.status, told.attempts) == ('scripted', 'ok', 2 + 2)
        assert json.loads(told.sampling)['temperature'] == 0.3
        one, two = frame.extra['prompt_hashes'].split()
        assert two == told.prompt_hash and len(first[one]) == 5 and len(last[two]) == 7
    rows = rows_of(generation.stages[1].folder)
    assert {each.source_uid for each in rows} == {
        f'explanations/{each.id}/{n}' for each in statements(2) for n in range(3)
    }
    assert {each.sample_index for each in rows_of(generation.stages[0].folder)} == {0, 1, 2}


def test_no_prompt_of_a_run_shows_its_statement(made):
    texts = [Statement(explained(number).statement) for number in range(4)]
    generation = made(texts, options=dict(selection='random', shots=dict(explanations=3)))
    run(generation)
    for stage in generation.stages:
        for row in rows_of(stage.folder):
            shown, _, asked = row.user_text.rpartition('\n\n')
            statement = asked.partition('] ')[2].partition('[/]')[0]
            assert statement in {each.text for each in texts}
            assert words_of(statement) not in words_of(shown)
            assert row.system_text.endswith(stage.builder.texts.policy.strip())


def test_kills_leave_three_rows_of_each_statement(made):
    count, kills = 40, 4
    texts = statements(count)
    generation = made(texts, seconds=0.03)
    folders = [stage.folder for stage in generation.stages]
    kept = [0, 0]
    for number in range(kills):
        before = made.calls().total() if number else 0
        process = forked(run, generation)
        wait_for(
            lambda before=before: (
                Path(made.run_dir.parent / 'log').exists() and made.calls().total() >= before + 45
            )
        )
        time.sleep(0.05 * number)
        assert process.exitcode is None, 'it is to be killed in the middle of it'
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        lines = [sum(p.read_bytes().count(b'\n') for p in f.glob('traces-*')) for f in folders]
        assert all(new >= old for new, old in zip(lines, kept, strict=True))
        kept = lines
    assert 0 < sum(kept) < 6 * count
    assert run(made(texts)) == 'done'
    for folder in folders:
        rows = rows_of(folder)
        assert len(rows) == len({each.row_key for each in rows}) == 3 * count
    calls = made.calls()
    assert 6 * count <= calls.total() <= 6 * count + kills * 68
    frames = made(texts).frames()
    assert len(frames) == 3 * count and {f.provenance.status for f in frames} == {'ok'}
    assert run(made(texts)) == 'done' and made.calls() == calls


RULES = dict(decline='refuse', mumble='muddle', half='no', brief='explanations:short')


def test_bad_answers_are_counted_and_not_asked_again(made):
    texts = [
        *statements(2),
        *statements(3, 10, ' decline'),
        *statements(4, 20, ' mumble'),
        *statements(5, 30, ' half'),
        *statements(6, 40, ' brief'),
    ]
    generation = made(texts, RULES)
    assert run(generation) == 'done'
    calls = made.calls()
    assert calls == dict(contexts=60, explanations=24), 'only sound contexts are explained'
    told = generation.report()
    assert told['contexts']['statuses'] == dict(
        ok=24, refused=9, malformed=12, incomplete_statement=15
    )
    assert told['contexts']['refusal_rate'] == 0.15
    assert told['explanations']['statuses'] == dict(ok=6, incomplete=18)
    frames = generation.frames()
    assert len(frames) == len({each.frame_id for each in frames}) == 60
    statuses = Counter(each.provenance.status for each in frames)
    assert statuses.pop('incomplete:offensiveness') == 18
    assert statuses == dict(ok=6, refused=9, malformed=12, incomplete_statement=15)
    for each in frames:
        whole = each.provenance.status == 'ok'
        assert not any(each.missing()) if whole else len(each.missing()) == 7
    assert run(made(texts)) == 'done' and made.calls() == calls, 'not even by another teacher'


def test_bad_answers_are_asked_again_in_the_same_words_if_wanted(made):
    texts = [*statements(2, 0, ' decline'), *statements(3, 10, ' mumble')]
    run(made(texts, RULES))
    before = {each.row_key: each for each in rows_of(made.run_dir / 'contexts')}
    assert run(made(texts, RULES), retry=['malformed']) == 'done'
    assert made.calls() == dict(contexts=15 + 9), 'what comes out the same is one row still'
    assert run(made(texts), retry=['refused']) == 'done'
    assert made.calls() == dict(contexts=15 + 9 + 6, explanations=6)
    rows = {each.row_key: each for each in rows_of(made.run_dir / 'contexts')}
    assert {key: each.messages() for key, each in rows.items()} == {
        key: each.messages() for key, each in before.items()
    }
    assert Counter(each.provenance.status for each in made(texts).frames()) == dict(
        ok=6, malformed=9
    )
    with pytest.raises(UserError, match="retry: 'ok'; known: refused, malformed, incomplete, echo"):
        run(made(texts), retry=['ok'])


def test_failed_calls_are_asked_again_if_wanted_and_later_stages_follow(made):
    texts = [*statements(2), *statements(2, 10, ' fail')]
    rules = dict(fail='contexts:fail')
    assert run(made(texts, rules)) == 'done' and run(made(texts)) == 'done'
    assert made.calls() == dict(contexts=12, explanations=6)
    assert made(texts).report()['contexts']['statuses'] == dict(failed=6, ok=6)
    again = made(texts, base=dict(retry_failed=True))
    assert run(again) == 'done' and made.calls() == dict(contexts=18, explanations=12)
    assert {each.provenance.status for each in again.frames()} == {'ok'}


def test_refusal_rates_are_told_for_large_groups_alone(made):
    texts = [
        *statements(15, 0, '', 'nurses'),
        *statements(5, 20, ' decline', 'nurses'),
        *statements(16, 40, ' decline', 'gardeners'),
        *statements(17, 60, ' fail', 'painters'),
        *statements(3, 80, ''),
    ]
    generation = made(texts, {**RULES, 'fail': 'fail'}, contexts_only=True)
    run(generation)
    told = generation.report()['contexts']
    assert told['wanted'] == told['rows'] == 3 * 56
    assert told['groups'] == {
        'nurses': dict(rows=60, statuses=dict(ok=45, refused=15), refusal_rate=0.25),
        'gardeners': dict(rows=48, statuses=dict(refused=48)),
        'painters': dict(rows=51, statuses=dict(failed=51)),
        '': dict(rows=9, statuses=dict(ok=9)),
    }
    assert told['refusal_rate'] == round(63 / 117, 6), 'failed calls are no answers'
    assert generation.report(min_rows=48)['contexts']['groups']['gardeners']['refusal_rate'] == 1
    assert {each.group for each in generation.frames()} == {'nurses', 'gardeners', 'painters', None}


def test_pairs_are_explained_on_both_sides(made):
    texts = [*statements(20), *statements(2, 30, ' decline')]
    generation = made(texts, RULES, counterfactual=True)
    assert run(generation) == 'done'
    assert made.calls() == dict(counterfactual=22, explanations=40)
    frames = generation.frames()
    whole = [each for each in frames if each.provenance.status == 'ok']
    assert len(frames) == 42 and len(whole) == 40
    assert all(each.pair_id is each.side is None for each in frames if each not in whole)
    meant_first = Counter()
    for one, two in zip(whole[::2], whole[1::2], strict=True):
        assert one.pair_id == two.pair_id and (one.side, two.side) == ('A', 'B')
        assert one.statement == two.statement and one.frame_id != two.frame_id
        for each in (one, two):
            assert each.situation.startswith(f'{each.extra["meant"]}_situation')
        assert {one.extra['meant'], two.extra['meant']} == {'harmless', 'offensive'}
        meant_first[one.extra['meant']] += 1
    assert len({each.pair_id for each in whole}) == 20
    assert set(meant_first) == {'harmless', 'offensive'}, 'a side tells nothing'
    assert run(made(texts, counterfactual=True)) == 'done' and made.calls().total() == 62


def test_both_kinds_of_generation_share_a_run_directory(made):
    texts = statements(2)
    assert run(made(texts)) == run(made(texts, counterfactual=True)) == 'done'
    assert sorted(each.name for each in made.run_dir.iterdir()) == [
        'contexts',
        'counterfactual',
        'counterfactual-explanations',
        'explanations',
    ]


def test_a_check_of_its_own_keeps_incomplete_statements_out(made):
    texts = [*statements(3), *statements(2, 10, ' half')]
    generation = made(texts, dict(half='check:no'), check=True)
    assert run(generation) == 'done'
    assert made.calls() == dict(check=5, contexts=9, explanations=9)
    statuses = Counter(each.provenance.status for each in generation.frames())
    assert statuses == dict(ok=9, incomplete_statement=2)


def test_a_context_that_comes_twice_is_one_frame(made):
    generation = made(statements(2), dict(Thanks='contexts:same'))
    assert run(generation) == 'done'
    assert made.calls() == dict(contexts=6, explanations=2)
    frames = generation.frames()
    assert [each.provenance.status for each in frames] == ['ok', 'repeated', 'repeated'] * 2
    assert len({each.frame_id for each in frames}) == 6
    assert all(len(each.missing()) == 7 for each in frames if each.provenance.status != 'ok')


def test_a_limit_stops_before_the_next_stage(made):
    texts = statements(4)
    assert run(made(texts, base=dict(max_rows=5))) == 'limit'
    assert made.calls() == dict(contexts=5)
    assert made(texts).frames()[0].provenance.status == 'unexplained'
    assert len(made(texts).frames()) == 5
    with pytest.raises(UserError, match=r'contexts: 5 of 12 rows are there'):
        run(made(texts), only_last=True)
    assert run(made(texts, contexts_only=True)) == 'done' and made.calls() == dict(contexts=12)
    assert run(made(texts), only_last=True) == 'done'
    assert made.calls() == dict(contexts=12, explanations=12)


def test_shards_wait_for_each_other_between_stages(made):
    texts = statements(6)
    ends = [run(made(texts), shard=Shard(index, 2)) for index in (0, 1, 0, 1)]
    assert ends[0] == 'limit' and ends[3] == 'done'
    assert made.calls() == dict(contexts=18, explanations=18)
    assert {each.provenance.status for each in made(texts).frames()} == {'ok'}


def test_a_shard_asks_for_its_own_rows_again_alone(made):
    texts = statements(6, 0, ' decline')
    run(made(texts, RULES))
    own = [Shard(0, 2).owns(each.row_key) for each in rows_of(made.run_dir / 'contexts')]
    assert len(own) == 18 and 0 < sum(own) < 18
    run(made(texts, RULES), retry=['refused'], shard=Shard(0, 2))
    assert made.calls() == dict(contexts=18 + sum(own))
    assert len({each.row_key for each in rows_of(made.run_dir / 'contexts')}) == 18


def test_nothing_is_left_to_explain(made):
    said = []
    assert made(statements(2, 0, ' decline'), RULES).run(say=said.append) == 'done'
    assert said[-1] == 'explanations: there is nothing to ask'
    assert not any('Thanks' in line for line in said)


@pytest.mark.parametrize(
    'change, said',
    [
        (dict(options=dict(form='json')), "settings.form was 'tagged' .* now it is 'json'"),
        (dict(options=dict(shots=dict(contexts=4))), 'settings.n_shots was 5 .* now it is 4'),
        (dict(options=dict(seed=1)), 'settings.seed was 0 .* now it is 1'),
        (dict(options=dict(selection='diverse')), "settings.selection was 'fixed'"),
        (dict(options=dict(contexts=2)), 'samples was 3 .* now it is 2'),
        (dict(options=dict(sampling=dict(contexts=dict(top_p=1.0)))), r'sampling.top_p was 0\.9'),
        (dict(pool=[explained(0, speaker='somebody'), *POOL[1:]]), 'settings.demonstrations was'),
        (dict(texts=statements(4)), r'queries\.(sha256|count) was'),
        (dict(base=dict(license_tag='mit')), "license_tag was '' .* now it is 'mit'"),
    ],
)
def test_another_configuration_is_refused(made, change, said):
    run(made(statements(3)))
    calls, before = made.calls(), [stage.read_bytes() for stage in made.run_dir.rglob('*.json*')]
    with pytest.raises(UserError, match=said):
        run(made(**{'texts': statements(3), **change}))
    assert made.calls() == calls
    assert [stage.read_bytes() for stage in made.run_dir.rglob('*.json*')] == before


def test_later_stages_are_compared_first(made):
    run(made(statements(3), dict(help='contexts:fail')))
    assert made.calls() == dict(contexts=9)
    run(made(statements(3), base=dict(retry_failed=True)))
    assert made.calls() == dict(contexts=18, explanations=9)
    others = (dict(shots=dict(explanations=6)), dict(sampling=dict(explanations=dict(seed=1))))
    for change in others:
        with pytest.raises(UserError, match=r'run/explanations/prompts/manifest.json: .* was'):
            run(made(statements(3), options=change), retry=['refused'])
    assert made.calls() == dict(contexts=18, explanations=9)
    told = json.loads((made.run_dir / 'contexts/summary-00000.json').read_text())
    assert told['new'] == 9, 'the stage before was not begun'


def test_more_statements_and_contexts_may_be_added_if_the_user_says_so(made):
    run(made(statements(3)))
    more = dict(base=dict(allow_change=('queries', 'samples')), options=dict(contexts=4))
    assert run(made(statements(5), **more)) == 'done'
    assert made.calls() == dict(contexts=20, explanations=20)


@pytest.mark.parametrize(
    'config, said',
    [
        (dict(contex=3), r'here\.contex: Extra inputs .* .did you mean .contexts.'),
        (dict(contexts=0), r'here\.contexts: Input should be greater than 0'),
        (dict(shots=dict(context=1)), r'here\.shots\.context'),
        (dict(form='xml'), r"here\.form: Input should be 'tagged' or 'json'"),
    ],
)
def test_wrong_options_are_named(config, said):
    with pytest.raises(UserError, match=said):
        read_options(config, 'here')


def test_what_stages_decide_is_no_option(made):
    with pytest.raises(UserError, match='sampling: stages have their own'):
        made(statements(1), base=dict(sampling=dict(temperature=1)))
    with pytest.raises(UserError, match='sampling.contexts.top_k: Extra inputs'):
        made(statements(1), options=dict(sampling=dict(contexts=dict(top_k=1))))
    with pytest.raises(UserError, match='teacher is missing'):
        Generation({}, statements(1), POOL, 'nowhere')


def test_statements_are_read_as_they_are(tmp_path):
    path = tmp_path / 'texts.csv'
    path.write_text('id,statement,group\n1,"None, thanks",nurses\n2,N/A,\n3,"None, thanks",x\n')
    assert read_statements(path) == [Statement('None, thanks', 'nurses'), Statement('N/A')]
    path.write_text('statement\n" "\n')
    with pytest.raises(UserError, match=r'texts\.csv:2: statement is empty'):
        read_statements(path)
    path.write_text('text\nhi\n')
    with pytest.raises(UserError, match='has no column statement'):
        read_statements(path)
    other = tmp_path / 'texts.jsonl'
    other.write_text('{"statement": "Hello.", "group": null, "more": 1}\n')
    assert read_statements(other) == [Statement('Hello.')]
    other.write_text('{"statement": 31415926}\n')
    with pytest.raises(UserError, match=r'texts\.jsonl:1: statement must be a text$'):
        read_statements(other)
    with pytest.raises(UserError, match='read from .jsonl, .csv'):
        read_statements(tmp_path / 'texts.txt')
    other.write_text('\n')
    with pytest.raises(UserError, match='there is no statement in it'):
        read_statements(other)
