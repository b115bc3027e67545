"""Answers: their statuses, and that no text gets into the slot of another."""

import json

import pytest
from frame_teachers import NAMES, REFUSAL, demonstrations, tagged
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.cobra.generation.answer_slots import read_slots
from mmkd.cobra.generation.answers import read_answer
from mmkd.cobra.generation.prompt_texts import CALLS
from mmkd.cobra.generation.prompting import PromptBuilder
from mmkd.cobra.schema import SLOTS
from mmkd.collection.answers import Job, trace_of
from mmkd.teachers.base import Reply
from mmkd.traces.schema import row_key

STATEMENT = 'Well done, everybody.'
SCENE = dict(situation='a meeting', speaker='a colleague', listener='the team')
POOL = demonstrations()
BUILDERS = {
    (kind, form): PromptBuilder(kind, POOL, 2, form=form)
    for kind in CALLS
    for form in ('tagged', 'json')
}


def answered(kind, text, form='tagged', **reply):
    """What is read from an answer."""
    builder = BUILDERS[kind, form]
    query = builder.query(STATEMENT, SCENE if kind == 'explanations' else None)
    sampling = builder.sampling()
    job = Job(row_key(query, 'scripted', sampling), query)
    reply = Reply(**{'text': text, 'finish_reason': 'stop', 'attempts': 2, **reply})
    return read_answer(trace_of(job, 'scripted', sampling, reply), builder, STATEMENT)


def texts(kind, **changes):
    """A sound answer as slots."""
    values = {slot: f'{slot}: so and so' for slot in CALLS[kind].asked}
    return {**values, **({'complete': 'Yes.'} if 'complete' in values else {}), **changes}


def written(kind, form='tagged', **changes):
    """The same as text; a slot that is None is left out."""
    values = {slot: text for slot, text in texts(kind, **changes).items() if text is not None}
    if form == 'json':
        return json.dumps(values)
    return '\n'.join(f'[{NAMES[slot]}] {text}[/]' for slot, text in values.items())


@pytest.mark.parametrize('form', ['tagged', 'json'])
@pytest.mark.parametrize('kind', CALLS)
def test_sound_answers_give_their_slots_and_where_they_come_from(kind, form):
    found = answered(kind, written(kind, form), form)
    expected = texts(kind)
    expected.pop('complete', None)
    assert found.status == 'ok' and found.values == expected
    told, builder = found.provenance, BUILDERS[kind, form]
    assert told.model == 'scripted' and told.attempts == 2 and told.status == 'ok'
    assert told.prompt_hash == builder.prompt(STATEMENT).hash
    assert json.loads(told.sampling)['temperature'] == builder.sampling().temperature


FORMS_OF_TAGGED = [
    lambda text: text,
    lambda text: text.partition('] ')[2],
    lambda text: ' ' + text.partition('] ')[2],
    lambda text: f'Sure, here it is:\n\n{text}',
    lambda text: f'{text}\n\nTell me if you need more of it.',
    lambda text: text.upper().replace('SO AND SO', 'so and so'),
    lambda text: text.removesuffix('[/]'),
    lambda text: f'[Statement] {STATEMENT}[/]\n{text}',
]


@pytest.mark.parametrize('change', range(len(FORMS_OF_TAGGED)))
@pytest.mark.parametrize('kind', CALLS)
def test_tagged_answers_may_go_on_or_begin_again(kind, change):
    found = answered(kind, FORMS_OF_TAGGED[change](written(kind)))
    assert found.status == 'ok'
    assert {slot: text.lower() for slot, text in found.values.items()} == {
        slot: text for slot, text in texts(kind).items() if slot != 'complete'
    }


def test_one_word_is_enough_for_a_check():
    assert answered('check', ' yes').status == answered('check', 'Yes[/]').status == 'ok'
    assert answered('check', 'no').status == 'incomplete_statement'
    assert answered('check', 'nobody knows').status == 'malformed'


@pytest.mark.parametrize('form', ['tagged', 'json'])
@pytest.mark.parametrize('kind', CALLS)
def test_a_missing_slot_is_named_and_the_others_stay_where_they_are(kind, form):
    for slot in CALLS[kind].asked if kind != 'check' else ():
        for nothing in (None, '', ' \n' if form == 'json' else ' '):
            text = written(kind, form, **{slot: nothing})
            found = answered(kind, text, form)
            assert (found.status, found.values) == (f'incomplete:{slot}', {})
            kept = {key: value for key, value in texts(kind).items() if key != slot}
            report = read_slots(text, BUILDERS[kind, form])
            assert {key: report.values[key] for key in kept} == kept


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(['explanations', 'contexts', 'counterfactual']),
    st.randoms(use_true_random=False),
    st.integers(0, 7),
    st.sampled_from(['tagged', 'json']),
    st.lists(st.sampled_from(['A: x', 'Q: y', '"power": z', 'a, b', '{c}', '[d]']), max_size=7),
)
def test_no_text_ever_moves_to_another_slot(kind, luck, count, form, tricky):
    asked = [slot for slot in CALLS[kind].asked if slot != 'complete']
    values = {slot: f'{slot} so' for slot in luck.sample(asked, len(asked))[:count]}
    values |= {slot: f'{slot} {text}' for slot, text in zip(values, tricky, strict=False)}
    written = {**values, **(dict(complete='yes') if kind == 'contexts' else {})}
    if form == 'json':
        text = json.dumps(written)
    else:
        text = '\n'.join(f'[{NAMES[slot]}] {value}[/]' for slot, value in written.items())
    found = answered(kind, text, form)
    assert read_slots(text, BUILDERS[kind, form]).values == written
    missing = [slot for slot in asked if slot not in values]
    whole = f'incomplete:{",".join(missing)}' if missing else 'ok'
    assert found.status == (whole if written else 'malformed')
    assert found.values == ({} if missing else values)


@pytest.mark.parametrize('form', ['tagged', 'json'])
def test_keys_of_other_kinds_of_call_do_not_stand_in(form):
    values = {slot: f'{slot} so' for slot in SLOTS}
    text = json.dumps(values) if form == 'json' else tagged(values)
    assert answered('contexts', text, form).status == 'malformed'
    mixed = {**values, **texts('contexts')}
    if form == 'json':
        found = answered('contexts', json.dumps(mixed), form)
        assert found.status == 'ok' and found.values['situation'] == 'situation: so and so'


@pytest.mark.parametrize(
    'text',
    [
        'hm',
        'a long text without any name',
        f'{written("explanations")}\n{written("explanations")}',
        f'{written("explanations")}\n\n[Statement] Another remark.[/]',
        written('explanations').replace('[/]', '[/]\nand another thing', 1),
        '{"intent": ',
    ],
)
def test_answers_of_another_form_are_malformed(text):
    assert answered('explanations', text).status == 'malformed'
    assert answered('explanations', '{"intent": ', 'json').status == 'malformed'
    assert answered('explanations', '', 'json').status == 'malformed'


def test_json_may_come_in_a_fence_or_as_tagged_text():
    fenced = f'Here:\n```json\n{written("contexts", "json")}\n```'
    assert answered('contexts', fenced, 'json').status == 'ok'
    assert answered('contexts', written('contexts'), 'json').status == 'ok'
    assert answered('contexts', written('contexts', 'json', speaker=7), 'json').status == (
        'incomplete:speaker'
    )


def test_refusals_are_known_by_their_words_or_by_the_endpoint():
    for kind, form in BUILDERS:
        assert answered(kind, REFUSAL, form).status == 'refused'
        assert answered(kind, REFUSAL.replace("'", '’'), form).status == 'refused'
        assert answered(kind, '', form, finish_reason='content_filter').status == 'refused'
    whole = written('contexts')
    assert answered('contexts', whole, finish_reason='content_filter').status == 'refused'
    in_json = json.dumps(dict.fromkeys(SLOTS, '') | dict(intent=REFUSAL))
    assert answered('explanations', in_json, 'json').status == 'refused'
    everywhere = json.dumps(dict.fromkeys(SLOTS, REFUSAL))
    assert answered('explanations', everywhere, 'json').status == 'refused'
    told = written('explanations', intent=f'to decline by saying {REFUSAL}', power=REFUSAL)
    assert answered('explanations', told).status == 'ok', 'a frame may speak of a refusal'


def test_echoes_are_no_answers():
    loud = 'WELL DONE – everybody'
    assert answered('explanations', written('explanations', implication=loud)).status == 'echo'
    told = f'they hear "{loud}" and are glad'
    assert answered('explanations', written('explanations', implication=told)).status == 'ok'
    shown = BUILDERS['contexts', 'tagged'].chosen(STATEMENT)[1].values
    copied = {slot: shown[slot] for slot in SCENE}
    assert answered('contexts', written('contexts', **copied)).status == 'echo'
    copied['speaker'] = 'somebody else'
    assert answered('contexts', written('contexts', **copied)).status == 'ok'


def test_answers_that_were_cut_are_too_long_unless_all_is_there():
    whole = written('explanations')
    cut = dict(finish_reason='length')
    assert answered('explanations', whole, **cut).status == 'ok'
    assert answered('explanations', f'{whole}\n\nAnd so', **cut).status == 'ok'
    for end in (3, 8, len(whole) // 2):
        assert answered('explanations', whole[:-end], **cut).status == 'too_long'
    in_json = written('explanations', 'json')
    assert answered('explanations', in_json, 'json', **cut).status == 'ok'
    assert answered('explanations', in_json[:-2], 'json', **cut).status == 'too_long'
    assert answered('explanations', REFUSAL, **cut).status == 'refused'


def test_an_endpoint_may_decline_with_an_error():
    for error, status in (
        ('HTTP 400: the prompt was held back by a content management policy', 'refused'),
        ('HTTP 400: code content_filter', 'refused'),
        ('HTTP 503: filter of contents is down', 'failed'),
    ):
        assert answered('contexts', '', status='failed', error=error).status == status


@pytest.mark.parametrize('status', ['failed', 'too_long'])
def test_calls_without_an_answer_keep_their_status(status):
    found = answered('contexts', '', status=status, attempts=8)
    assert found.status == status and found.provenance.attempts == 8


def test_incomplete_statements_need_no_context():
    assert answered('contexts', written('contexts', complete='No')).status == 'incomplete_statement'
    bare = written('contexts', complete='no', speaker='', listener=None)
    assert answered('contexts', bare).status == 'incomplete_statement'
    assert answered('contexts', written('contexts', complete='maybe')).status == 'malformed'


@pytest.mark.parametrize('word', ['none', 'N/A', 'None.', 'null'])
def test_words_for_nothing_are_no_context_of_a_pair(word):
    found = answered('counterfactual', written('counterfactual', offensive_speaker=word))
    assert found.status == 'incomplete:offensive_speaker'
    assert answered('explanations', written('explanations', offensiveness=word)).status == 'ok'
    assert answered('contexts', written('contexts', listener=word)).status == 'ok'
