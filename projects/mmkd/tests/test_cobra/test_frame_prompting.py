"""Prompts: what they show, what they never show, and what their hashes depend on."""

import hashlib
import json

import pytest
import yaml
from frame_teachers import demonstrations, explained, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.core.errors import UserError
from mmkd.cobra.generation.answer_slots import read_slots
from mmkd.cobra.generation.demonstrations import SELECTIONS, words_of
from mmkd.cobra.generation.prompt_texts import CALLS, PROMPTS, load_prompts
from mmkd.cobra.generation.prompting import PromptBuilder, prompt_hash
from mmkd.cobra.schema import CONTEXT, SLOTS, statement_id

POOL = demonstrations()
SCENE = dict(situation='a meeting', speaker='a colleague', listener='the team')


def test_a_tagged_prompt_ends_with_the_first_name_that_is_asked_for():
    builder = PromptBuilder('explanations', [explained(3, power='none,\n as   equals')], 1)
    query = builder.query('Well\n\ndone.', SCENE, 2)
    assert query.user_text.split('\n') == [
        '[Statement] Your report on topic 3 was clear.[/]',
        '[Situation] situation of remark 3[/]',
        '[Speaker] speaker of remark 3[/]',
        '[Listener] listener of remark 3[/]',
        '[Intent] intent of remark 3[/]',
        '[Target] target_group of remark 3[/]',
        '[Power difference] none, as equals[/]',
        '[Implied meaning] implication of remark 3[/]',
        '[Emotional reaction] emotional of remark 3[/]',
        '[Lasting reaction] cognitive of remark 3[/]',
        '[Kind of offence] offensiveness of remark 3[/]',
        '',
        '[Statement] Well done.[/]',
        '[Situation] a meeting[/]',
        '[Speaker] a colleague[/]',
        '[Listener] the team[/]',
        '[Intent]',
    ]
    assert query.source_uid == f'explanations/{statement_id("Well" + chr(10) * 2 + "done.")}/2'
    assert query.task_name == 'explanations' and query.sub_collection == 'cobra'


def test_a_json_prompt_is_of_objects():
    query = PromptBuilder('counterfactual', pair(4), 1, form='json').query('Well done, "you".')
    first, last = query.user_text.split('\n\n')
    shown, answer = first.split('\n')
    statement = 'Your report on topic 4 was clear.'
    assert json.loads(shown.removeprefix('Input: ')) == dict(statement=statement)
    answer = json.loads(answer.removeprefix('Output: '))
    assert list(answer) == list(CALLS['counterfactual'].asked)
    assert answer['harmless_situation'] == 'occasion 4 B', 'by its label, not by its place'
    assert answer['offensive_situation'] == 'occasion 4 A'
    asked = last.removeprefix('Input: ').removesuffix('\nOutput:')
    assert json.loads(asked) == dict(statement='Well done, "you".')


def test_sizes_are_the_published_ones():
    for kind, shots, temperature in (('contexts', 5, 1.0), ('explanations', 7, 0.3)):
        builder = PromptBuilder(kind, POOL)
        assert len(builder.chosen('Well done.')) == builder.n_shots == shots
        drawn = builder.sampling()
        assert (drawn.temperature, drawn.top_p, drawn.max_tokens) == (temperature, 0.9, 225)
        assert drawn.stop == ('\n[Statement]',), 'no statement of its own'
        assert PromptBuilder(kind, POOL, form='json').sampling().stop == ()


@pytest.mark.parametrize('form', ['tagged', 'json'])
@pytest.mark.parametrize('kind', CALLS)
def test_the_examples_are_sound_answers_themselves(kind, form):
    builder = PromptBuilder(kind, POOL, 3, form=form)
    query = builder.query('Well done.', SCENE if kind == 'explanations' else None)
    blocks = query.user_text.split('\n\n')[:-1]
    for block, shown in zip(blocks, builder.chosen('Well done.'), strict=True):
        if form == 'json':
            block = block.partition('Output: ')[2]
        else:
            first = builder.texts.names[CALLS[kind].asked[0]]
            block = f'[{first}]' + block.partition(f'[{first}]')[2]
        report = read_slots(block, builder)
        assert report.ok and report.found == CALLS[kind].asked
        assert report.values == {slot: shown.values[slot] for slot in CALLS[kind].asked}


WORDS = [
    'your',
    'report',
    'on',
    'topic',
    'was',
    'clear',
    'situation',
    'of',
    'remark',
    '1',
    '2',
    '3',
    '7',
]
CASES = st.sampled_from(
    [str.upper, str.title, lambda text: f'  {text}!! ', lambda text: f'“{text}”']
)
PARTS = st.one_of(
    st.sampled_from([frame.statement for frame in POOL[:9]]),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(' '.join),
)


@settings(max_examples=80, deadline=None)
@given(PARTS, CASES, st.sampled_from(SELECTIONS), st.integers(0, 3))
def test_no_demonstration_holds_the_statement(text, change, selection, seed):
    statement = change(text)
    builder = PromptBuilder('explanations', POOL, 3, selection, seed)
    try:
        block = builder.prompt(statement).block
    except UserError:
        texts = [
            [each.statement, *each.context().values(), *each.explanation().values()]
            for each in POOL
        ]
        holding = [any(words_of(text) in words_of(each) for each in one) for one in texts]
        assert len(POOL) - sum(holding) < 3, 'it is in almost all of them'
        return
    values = [line.partition('] ')[2].removesuffix('[/]') for line in block.splitlines()]
    assert not any(words_of(text) in words_of(value) for value in values)


def test_statements_without_words_and_yes_itself():
    emoji = [explained(1, intent='said with 🙂'), explained(2)]
    assert [each.id for each in PromptBuilder('contexts', emoji, 1).chosen(' 🙂')] == ['demo-1']
    emoji[0] = explained(1, situation='said with 🙂')
    assert [each.id for each in PromptBuilder('contexts', emoji, 1).chosen(' 🙂')] == ['demo-2']
    assert len(PromptBuilder('contexts', emoji, 2).chosen('Yes.')) == 2


def test_too_few_that_may_be_shown_are_named_by_id_alone():
    statement = explained(1).statement
    with pytest.raises(UserError, match='only 8 of 9 do not hold') as error:
        PromptBuilder('check', POOL[:9], 9).query(statement)
    assert statement_id(statement) in str(error.value) and 'topic' not in str(error.value)
    with pytest.raises(UserError, match='contexts: 5 demonstrations are wanted, there are 2'):
        PromptBuilder('contexts', POOL[:2])


def test_the_hash_is_that_of_everything_but_the_statement():
    def made(kind='contexts', frames=POOL, statement='Well done.', **options):
        return prompt_hash(PromptBuilder(kind, frames, **options).query(statement))

    assert made() == made(statement='Thank you.') == made(selection='fixed', seed=5)
    others = [
        made(kind='counterfactual'),
        made(frames=POOL[::-1]),
        made(frames=[explained(0, speaker='another'), *POOL[1:]]),
        made(n_shots=4),
        made(form='json'),
        made(selection='random'),
        made(selection='random', seed=1),
        made(selection='random', statement='Thank you.'),
    ]
    assert len({made(), *others}) == 1 + len(others)


@pytest.mark.parametrize(
    'selection, ids',
    [
        ('fixed', ['demo-0', 'demo-1', 'demo-2']),
        ('random', ['demo-3', 'demo-4', 'demo-1']),
        ('diverse', ['demo-2', 'demo-6', 'demo-3']),
    ],
)
def test_prompts_and_hashes_are_the_same_in_every_process(selection, ids):
    """Python's own hashes, which differ from process to process, have no part in it."""
    builder = PromptBuilder('contexts', POOL[:9], 3, selection, seed=1)
    prompt = builder.prompt('Well done.')
    assert list(prompt.ids) == ids
    assert builder.settings['demonstrations'] == 'c9730273cfe12e5e6052a2236571f973'
    content = json.dumps(
        ['contexts', 'tagged', builder.system, prompt.block],
        ensure_ascii=False,
        separators=(',', ':'),
    )
    assert prompt.hash == hashlib.sha256(content.encode()).hexdigest()[:32]


def test_used_prompts_are_told_with_the_ids_of_their_demonstrations():
    builder = PromptBuilder('contexts', POOL, 2)
    queries = [builder.query(text) for text in ('Well done.', explained(0).statement)]
    told = {each['prompt_hash']: each['demonstrations'] for each in builder.used()}
    assert [told[prompt_hash(each)] for each in queries] == [
        ['demo-0', 'demo-1'],
        ['demo-1', 'demo-2'],
    ]


def test_random_examples_depend_on_seed_and_statement_not_on_the_order_of_the_file():
    def ids(pool, seed, statement):
        return [
            each.id for each in PromptBuilder('check', pool, 4, 'random', seed).chosen(statement)
        ]

    drawn = {tuple(ids(POOL, seed, text)) for seed in range(5) for text in ('Thanks.', 'Hello.')}
    assert len(drawn) == 10
    assert ids(POOL, 3, 'Thanks.') == ids(POOL[::-1], 3, 'Thanks.')


def test_diverse_examples_are_far_from_each_other():
    odd = explained(50, **dict.fromkeys((*CONTEXT, *SLOTS), 'quite different'), statement='Hi all.')
    for seed in range(6):
        builder = PromptBuilder('explanations', [*POOL[:8], odd], 2, 'diverse', seed)
        assert 'demo-50' in [each.id for each in builder.chosen('Well done.')]


def test_diverse_examples_are_far_from_all_that_are_shown_before():
    words = ['red', 'green', 'blue', 'red', 'green', 'blue']
    pool = [
        explained(n, statement=f'{word} {n}', **dict.fromkeys((*CONTEXT, *SLOTS), f'{word} paint'))
        for n, word in enumerate(words)
    ]
    for seed in range(6):
        chosen = PromptBuilder('explanations', pool, 3, 'diverse', seed).chosen('Well done.')
        assert {each.values['intent'] for each in chosen} == {f'{word} paint' for word in words}


def test_frames_that_lack_something_are_no_demonstrations():
    with pytest.raises(UserError, match='demo-1 of explanations has no power, cognitive'):
        PromptBuilder('explanations', [explained(1, power='', cognitive=' \n')], 1)
    bare = explained(1, **dict.fromkeys(SLOTS, ''))
    assert PromptBuilder('contexts', [bare], 1).pool[0].values['complete'] == 'yes'
    unfinished = explained(2, extra=dict(statementCheck='No'), **dict.fromkeys(SLOTS, ''))
    assert PromptBuilder('check', [unfinished], 1).pool[0].values['complete'] == 'No'
    assert len(PromptBuilder('explanations', [unfinished, explained(1)], 1).pool) == 1
    with pytest.raises(UserError, match='the id demo-1 occurs twice'):
        PromptBuilder('contexts', [explained(1), explained(1)], 1)


def test_pairs_need_two_labelled_frames_of_one_statement():
    one, two = pair(1)
    for frames, said in (
        ([one], 'pair-1 needs two frames of one statement'),
        ([one, two.model_copy(update=dict(label_majority=1))], 'one frame that is labelled'),
        ([one, two.model_copy(update=dict(label_majority=None))], 'one frame that is labelled'),
        ([one, two.model_copy(update=dict(statement='Hello.'))], 'of one statement'),
    ):
        with pytest.raises(UserError, match=said):
            PromptBuilder('counterfactual', frames, 1)


@pytest.mark.parametrize('kind', CALLS)
def test_every_system_message_has_the_policy_and_what_is_asked_for(kind):
    texts = load_prompts()
    for form in ('tagged', 'json'):
        builder = PromptBuilder(kind, POOL, form=form)
        assert builder.system.startswith(texts.kinds[kind].strip())
        assert builder.system.endswith(texts.policy.strip()) and '{' not in builder.system
        query = builder.query('Well done.', SCENE if kind == 'explanations' else None)
        assert [each['role'] for each in query.messages()] == ['system', 'user']
        assert query.system_text == builder.system
        for slot in CALLS[kind].asked:
            assert (f'[{texts.names[slot]}]' if form == 'tagged' else f'"{slot}"') in builder.system


@pytest.mark.parametrize(
    'options, said',
    [
        (dict(kind='context'), "kind: 'context' .did you mean 'contexts'"),
        (dict(selection='any'), "selection: 'any'; known: fixed, random, diverse"),
        (dict(form='xml'), "form: 'xml'; known: tagged, json"),
        (dict(n_shots=-1), 'n_shots of contexts is -1'),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(UserError, match=said):
        PromptBuilder(**{'kind': 'contexts', 'demonstrations': POOL, **options})


@pytest.mark.parametrize(
    'change, said',
    [
        (lambda found: found.update(policy=' '), 'policy is empty'),
        (lambda found: found['names'].update(power='speaker'), "names.power: 'speaker' must"),
        (lambda found: found['names'].update(power='P]'), "names.power: 'P]' must be"),
        (lambda found: found['kinds'].pop('check'), 'kinds.check is missing'),
        (lambda found: found.update(more=1), 'more: Extra inputs'),
        (lambda found: found['forms'].update(xml='x'), 'forms.xml'),
    ],
)
def test_files_of_words_are_checked(tmp_path, change, said):
    content = yaml.safe_load(PROMPTS.read_text())
    change(content)
    path = tmp_path / 'prompts.yaml'
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=said):
        load_prompts(path)
    with pytest.raises(UserError, match='there is no such file of prompts'):
        load_prompts(tmp_path / 'none.yaml')
