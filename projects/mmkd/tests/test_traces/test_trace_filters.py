"""Filters: what each objects to, batches without effect, likeness against exact sets."""

import json
from collections import Counter

import numpy as np
import pytest
from trace_cases import make_trace

from mmdistill.core.errors import UserError
from mmkd.registry import TRACE_FILTERS
from mmkd.traces.filters.answers import (
    EmptyAnswer,
    LongPrompt,
    RefusedAnswer,
    UnfinishedAnswer,
    UnlicensedTrace,
)
from mmkd.traces.filters.base import Counts, filtered
from mmkd.traces.filters.contamination import Contaminated
from mmkd.traces.filters.repetitions import (
    NearlyRepeated,
    RepeatedQuery,
    minhash,
    permutations,
    shingles_of,
)
from mmkd.traces.filters.target import WrongAnswer, chosen_option, option_number
from mmkd.traces.ngrams import ngram_hashes, words
from mmkd.traces.options import is_multiple_choice, listed_options


def statuses(traces, *filters, **more):
    """Statuses after some filters."""
    return [each.status for each in filtered(traces, filters, **more)]


def test_empty_and_unfinished_answers():
    traces = [make_trace(answer=text) for text in ('', ' \n\t\u3000', ' x ')]
    assert statuses(traces, EmptyAnswer()) == ['filtered:empty'] * 2 + ['ok']
    ends = [make_trace(finish_reason=each) for each in ('stop', '', 'length', 'content_filter')]
    bad = ['filtered:finish_reason'] * 2
    assert statuses(ends, UnfinishedAnswer()) == ['ok', 'ok', *bad]
    assert statuses(ends, UnfinishedAnswer(['stop', 'length']))[1:3] == [bad[0], 'ok']


def test_refusals_need_a_phrase_near_the_start(tmp_path):
    texts = {
        'I’m sorry, but I will not.': True,
        'AS AN   AI\nmodel, no': True,
        'Sure. ' * 40 + 'As an AI might say': False,
        'The sky is blue': False,
        '': False,
    }
    traces = [make_trace(answer=text) for text in texts]
    found = statuses(traces, RefusedAnswer())
    assert [each == 'filtered:refusal' for each in found] == [*texts.values()]
    own = tmp_path / 'own.yaml'
    own.write_text('phrases: [The SKY]')
    assert statuses(traces, RefusedAnswer(str(own)))[3:] == ['filtered:refusal', 'ok']
    assert statuses(traces, RefusedAnswer(str(own), within=0))[3] == 'ok'
    for text in ('phrases: []', 'phrases: [1]', 'phrase: [a]', '[a]', 'phrases: abc'):
        own.write_text(text)
        with pytest.raises(UserError, match='own.yaml: phrases must be a list of texts'):
            RefusedAnswer(str(own))
    with pytest.raises(UserError, match='nowhere.yaml: there is no such file of phrases'):
        RefusedAnswer('nowhere.yaml')


def test_licenses_and_long_prompts():
    traces = [make_trace(license_tag=tag) for tag in ('MIT', '', 'nc')]
    bad = 'filtered:license'
    assert statuses(traces, UnlicensedTrace(['MIT', 'x'])) == ['ok', bad, bad]
    with pytest.raises(UserError, match="tags: must be a list of license tags, got 'MIT'"):
        UnlicensedTrace('MIT')
    prompts = [make_trace(question='a b c', system_text=text) for text in ('d e', 'd e f')]
    count = lambda text: len(text.split())  # noqa: E731
    assert statuses(prompts, LongPrompt(5, count)) == ['ok', 'filtered:long_prompt']
    with pytest.raises(UserError, match='nowhere: no tokenizer: '):
        LongPrompt(5, '/nowhere')


def test_only_ok_traces_are_judged_and_the_first_rule_counts():
    given = ['ok', 'failed', 'filtered:mine', 'truncated', 'empty', 'refused', 'too_long']
    traces = [make_trace(answer='', finish_reason='length', status=each) for each in given]
    counts = Counts()
    found = statuses(traces, EmptyAnswer(), UnfinishedAnswer(), counts=counts)
    assert found == ['filtered:empty', *given[1:]]
    assert counts.as_dict()['status'] == Counter(found)


def test_counts_by_rule_and_teacher():
    traces = [make_trace(teacher=t, answer=a) for t in 'ab' for a in ('', 'x', 'y')]
    counts = Counts()
    list(filtered(traces[:5], [EmptyAnswer()], counts))
    assert counts.as_dict() == dict(
        total=5,
        status={'filtered:empty': 2, 'ok': 3},
        teachers=dict(a={'filtered:empty': 1, 'ok': 2}, b={'filtered:empty': 1, 'ok': 1}),
    )


def test_repeated_queries_by_teacher_and_sample():
    traces = [
        make_trace('1', 'é'),
        make_trace('2', 'e\u0301'),  # the same in NFC
        make_trace('3', 'é', teacher='u'),
        make_trace('4', 'é', sample=1),
        make_trace('5', 'é', system_text='s'),
        make_trace('6', 'é', sample=1, answer='other'),
    ]
    bad = 'filtered:duplicate'
    assert statuses(traces, RepeatedQuery()) == ['ok', bad, 'ok', 'ok', 'ok', bad]
    # what another rule has left out is not in the way of a good one
    empty = [make_trace('1', answer=''), make_trace('2'), make_trace('3')]
    assert statuses(empty, EmptyAnswer(), RepeatedQuery()) == ['filtered:empty', 'ok', bad]


def sentences(count, length, seed):
    """Texts of random words."""
    random = np.random.default_rng(seed)
    return [' '.join(f'w{n}' for n in random.integers(0, 500, length)) for _ in range(count)]


def jaccard(one, other, size):
    """Likeness of two texts by their exact sets of runs."""
    sets = []
    for text in (one, other):
        found = words(text)
        sets.append({tuple(found[n : n + size]) for n in range(len(found) - size + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize('changed', [0, 2, 8, 20, 60])
def test_minhash_estimates_the_likeness_of_sets(changed):
    [text] = sentences(1, 120, changed)
    parts = text.split()
    other = ' '.join([*parts[: 120 - changed], *sentences(1, changed, 99)[0].split()])
    exact = jaccard(text, other, 3)
    rows = 4096
    one, two = minhash([shingles_of(each, 3) for each in (text, other)], permutations(rows, 1))
    assert abs((one == two).mean() - exact) <= 4 * (exact * (1 - exact) / rows) ** 0.5
    assert len(shingles_of(text, 3)) == len({tuple(parts[n : n + 3]) for n in range(118)})


def test_minhash_is_of_sets_and_in_chunks_of_any_size(monkeypatch):
    factors = permutations(64, 0)
    shingles = np.random.default_rng(0).integers(0, 2**63, 50).astype(np.uint64)
    base = minhash([shingles], factors)
    assert (minhash([shingles[::-1]], factors) == base).all()
    assert (minhash([np.r_[shingles, shingles[:9]]], factors) == base).all()
    prime = 2**31 - 1  # exact integers
    a, b = factors.astype(object)
    exact = [min((x * int(h) + y) % prime for h in shingles) for x, y in zip(a, b, strict=True)]
    assert base[0].tolist() == exact
    monkeypatch.setattr('mmkd.traces.filters.repetitions._CHUNK', 7)
    assert (minhash([shingles], factors) == base).all()


@pytest.mark.parametrize('batch', [1, 7, 1000])
def test_nearly_repeated_texts(batch):
    texts = sentences(40, 80, 0)
    near = [' '.join([*text.split()[:-1], 'end']).upper() + '!' for text in texts[:10]]
    far = [' '.join([*text.split()[:40], *sentences(1, 40, 5)[0].split()]) for text in texts[:10]]
    assert min(jaccard(a, b, 5) for a, b in zip(texts, near, strict=False)) > 0.95
    assert max(jaccard(a, b, 5) for a, b in zip(texts, far, strict=False)) < 0.4
    traces = [make_trace(str(n), text) for n, text in enumerate([*texts, *near, *far])]
    traces.append(make_trace('u', near[0], teacher='other'))
    found = statuses(traces, NearlyRepeated(), batch=batch)
    assert found == ['ok'] * 40 + ['filtered:near_duplicate'] * 10 + ['ok'] * 11
    answers = [
        make_trace(str(n), str(n), answer=text) for n, text in enumerate([texts[0], near[0]])
    ]
    assert statuses(answers, NearlyRepeated(of='response_text'), batch=batch)[1] != 'ok'
    assert statuses(answers, NearlyRepeated(), batch=batch) == ['ok'] * 2


def test_a_text_is_compared_with_kept_ones_alone():
    [first] = sentences(1, 100, 0)
    new, parts = sentences(1, 16, 7)[0].split(), first.split()
    second = [*parts[:-8], *new[:8]]
    third = ' '.join([*new[8:], *second[8:]])  # near the second one, which is left out
    texts = [first, ' '.join(second), third]
    assert jaccard(texts[1], third, 5) > 0.83 and jaccard(first, third, 5) < 0.73
    traces = [make_trace(str(n), text) for n, text in enumerate(texts)]
    each = NearlyRepeated(0.8, bands=64)
    assert statuses(traces, each) == ['ok', 'filtered:near_duplicate', 'ok']
    assert statuses(traces[1:], NearlyRepeated(0.8, bands=64))[1] != 'ok'


def test_short_and_empty_texts_are_alike_only_when_equal():
    traces = [make_trace(str(n), text) for n, text in enumerate(['a b', 'a c', 'A, b', '', '?'])]
    bad = 'filtered:near_duplicate'
    assert statuses(traces, NearlyRepeated()) == ['ok', 'ok', bad, 'ok', bad]


def test_mistakes_of_near_duplicates():
    for options, said in (
        (dict(threshold=0), r'threshold must be in \(0, 1\], got 0'),
        (dict(of='target'), "of must be .* got 'target'"),
        (dict(rows=0), 'must be at least 1'),
    ):
        with pytest.raises(UserError, match=said):
            NearlyRepeated(**options)


def test_ngrams_are_runs_of_words():
    text = 'The cat -- sat, on; the CAT sat on'
    hashes = ngram_hashes(text, 3)
    assert len(hashes) == 6 and (hashes[:2] == hashes[4:]).all() and len(set(hashes.tolist())) == 4
    assert (hashes[1:3] == ngram_hashes('CAT. Sat on, the', 3)).all()
    assert ngram_hashes('sat cat the', 3)[0] != hashes[0]
    assert len(ngram_hashes('a b', 3)) == len(ngram_hashes('', 1)) == 0


LETTERED = 'Which?\nOPTIONS:\n(A) red wine\n(B) white wine\n(C) beer\nThink.'
LISTED = 'Follows?\n\nOptions:\n- yes\n- no\n- it is not possible to tell'


def test_options_of_a_question():
    assert listed_options(LETTERED) == (('A', 'B', 'C'), ('red wine', 'white wine', 'beer'))
    assert listed_options(LISTED) == ((), ('yes', 'no', 'it is not possible to tell'))
    assert listed_options('Choices: \r\na. x\r\nb. y') == (('A', 'B'), ('x', 'y'))
    assert listed_options('x\nOptions:\n- one') == ((), ())
    assert listed_options('What options: are there?\n- a\n- b') == ((), ())
    assert listed_options('A list\n- a\n- b') == ((), ())
    assert is_multiple_choice('zs_opt', '') and not is_multiple_choice('zs_noopt', LISTED)
    assert is_multiple_choice('', LISTED) and not is_multiple_choice('other', 'q')


@pytest.mark.parametrize(
    ('question', 'target', 'answer', 'status'),
    [
        (LETTERED, '(B)', 'Grapes ... so the answer is (B).', 'ok'),
        (LETTERED, 'B', 'The answer is A.', 'filtered:target'),
        (LETTERED, 'white wine', 'Not (A), as ... The answer is B', 'ok'),
        (LETTERED, '(B) white wine', 'The answer is C.', 'filtered:target'),
        (LETTERED, 'B', 'It must be beer.', 'filtered:target'),
        (LETTERED, 'B', 'Wine is made of grapes.', 'ok'),  # names none
        (LETTERED, 'cider', 'The answer is A.', 'ok'),  # the target is none
        (LISTED, 'no', 'The answer is no.', 'ok'),
        (LISTED, 'No', 'Yes, as ...', 'filtered:target'),
        (LISTED, 'it is not possible to tell', 'It is not possible to tell.', 'ok'),
        ('no options', 'no', 'yes', 'ok'),
    ],
)
def test_answers_against_the_target(question, target, answer, status):
    trace = make_trace(question=question, target=target, answer=answer, is_mc=True)
    assert statuses([trace], WrongAnswer()) == [status]
    for other in (dict(is_mc=False), dict(target=None)):
        assert statuses([trace.model_copy(update=other)], WrongAnswer()) == ['ok']


def test_options_that_cannot_be_told_apart():
    assert option_number('x', (), ('x', 'X')) is None
    assert chosen_option('The answer is x', (), ('xx', 'XX')) is None
    assert chosen_option('The answer is 3', (), ('3', '4')) is None
    assert chosen_option('The answer is B', ('A', 'C'), ('red', 'blue')) is None


RUN = ' '.join(f'w{n}' for n in range(13))


@pytest.fixture
def evaluations(tmp_path):
    """Evaluation files of four kinds, 13 words in each, and what is too short."""
    folder = tmp_path / 'eval'
    folder.mkdir()
    lines = dict(json=f'j {RUN}', jsonl=f'l {RUN}', txt=f't {RUN}')
    (folder / 'a.json').write_text(json.dumps(dict(examples=[dict(input=lines['json'], n=1)])))
    row = dict(question='short', options=[lines['jsonl'], 'x'], system_text=f's {RUN}')
    (folder / 'b.jsonl').write_text(json.dumps(row))
    (folder / 'c.txt').write_text(f'{lines["txt"]}\n\nshort')
    return folder


def test_contamination_is_a_run_of_13_words(evaluations):
    twelve = ' '.join(f'w{n}' for n in range(12))
    texts = {
        f'{RUN}': True,
        f'before {RUN.upper().replace(" ", ", ")}, after': True,
        f'j {twelve} x': True,
        f'{twelve} x': False,
        f's {twelve}': False,  # of a system message
        f'{RUN[3:]} w0': False,
        'short': False,
    }
    traces = [make_trace(str(n), text) for n, text in enumerate(texts)]
    traces += [make_trace('in the answer', 'q', answer=f'l {twelve}'), make_trace('none', '')]
    each = Contaminated([str(evaluations)])
    found = [status == 'filtered:contamination' for status in statuses(traces, each)]
    assert found == [*texts.values(), True, False]
    report = each.report()
    assert (report['n'], report['checked']) == (13, 9)
    about = [{k: v for k, v in row.items() if k != 'file'} for row in report['files']]
    assert about == [
        dict(texts=1, too_short=0, runs=2, traces=3, examples=['0', '1', '2']),
        dict(texts=3, too_short=2, runs=2, traces=1, examples=['in the answer']),
        dict(texts=2, too_short=1, runs=2, traces=0, examples=[]),
    ]
    json.dumps(report)
    shorter = Contaminated([str(evaluations / 'c.txt')], n=12)
    assert statuses(traces, shorter)[3] == 'filtered:contamination'


def test_contamination_equals_a_search_of_all_runs(tmp_path):
    random = np.random.default_rng(0)
    draw = lambda: ' '.join(random.choice(list('abc'), 9))  # noqa: E731

    def runs(text):
        """All runs of five words."""
        parts = text.split()
        return {tuple(parts[n : n + 5]) for n in range(len(parts) - 4)}

    texts = [draw() for _ in range(12)]
    (tmp_path / 'e.txt').write_text('\n'.join(texts))
    each = Contaminated([str(tmp_path)], n=5)
    known = set.union(*map(runs, texts))
    traces = [make_trace(str(n), draw()) for n in range(200)]
    expected = [bool(runs(trace.user_text) & known) for trace in traces]
    assert each.objects(traces) == expected and 20 < sum(expected) < 180


def test_mistakes_of_contamination(tmp_path):
    with pytest.raises(UserError, match="files: must be a list of evaluation files, got 'a'"):
        Contaminated('a')
    with pytest.raises(UserError, match='nowhere: there is no such evaluation file'):
        Contaminated(['nowhere'])
    (tmp_path / 'a.txt').write_text('too short')
    with pytest.raises(UserError, match=r'a.txt: no text of the evaluation files has 13 words'):
        Contaminated([str(tmp_path)])
    (tmp_path / 'b.json').write_text('{')
    with pytest.raises(UserError, match='b.json: cannot be read: '):
        Contaminated([str(tmp_path / 'b.json')])


def test_filters_are_built_from_configs():
    names = ('EmptyAnswer', 'UnfinishedAnswer', 'RefusedAnswer', 'RepeatedQuery', 'NearlyRepeated')
    found = [TRACE_FILTERS.build(dict(type=f'mmkd.{name}')) for name in (*names, 'WrongAnswer')]
    found.append(TRACE_FILTERS.build(dict(type='UnlicensedTrace', tags=['MIT'])))
    found.append(TRACE_FILTERS.build(dict(type='LongPrompt', max_tokens=3, count=len)))
    rules = [each.rule for each in found] + [Contaminated.rule]
    assert len(set(rules)) == 9
