"""Templates: frames come back from their texts, whatever is in them and whatever tokenizes them."""

import difflib
import itertools
import json
from importlib.resources import files

import pytest
import yaml
from frame_cases import (
    ALL,
    ANGLED,
    BLANKS,
    BRACED,
    MARKS,
    WORDS,
    byte_level,
    collapsed,
    frame_of,
    plain_frame,
    random_frames,
    t5,
    through,
)

from mmdistill.core.errors import UserError
from mmkd.cobra.schema import CONTEXT, SLOTS
from mmkd.cobra.texts.qa_template import QATemplate
from mmkd.cobra.texts.slot_templates import JsonTemplate, SlotTokenTemplate, TaggedTemplate
from mmkd.cobra.texts.templates import TEMPLATES, FrameTemplate, frame_template
from mmkd.cobra.texts.wording import DEFAULT_FILE
from mmkd.registry import TASK_UTILS
from mmkd.traces.schema import digest

NAMES = tuple(TEMPLATES)
SUBSETS = [c for n in range(4) for c in itertools.combinations(CONTEXT, n)]


@pytest.fixture(scope='module')
def frames():
    """Frames whose values look like anything."""
    return random_frames(1000)


def same(found: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether they are equal up to white space."""
    return {k: collapsed(v) for k, v in found.items()} == {
        k: collapsed(v) for k, v in wanted.items()
    }


def test_texts_are_those_that_are_documented() -> None:
    """Golden: a value with a mark of its own in each."""
    frame = frame_of(
        dict(intent='say Q: or A: or <int> or [/] or "|"', speaker='a chief'), 'Thanks.'
    )
    slots, context = ('intent', 'power'), ('speaker',)
    texts = {
        name: (
            frame_template(name).source(frame, context),
            frame_template(name).target(frame, slots),
        )
        for name in NAMES
    }
    assert texts == {
        'qa': (
            'Scene: some place\nWho speaks: a chief\nTo whom: anybody\nWhat is said: Thanks.',
            'Q: What are these words meant to bring about? '
            'A: say Q|.: or A|.: or <int> or [/] or "||"\n'
            'Q: Who has more say here, and why does that matter? A: ',
        ),
        'tokens': (
            '<spk> a chief <sta> Thanks.',
            '<int> say Q: or A: or <|.int> or [/] or "||" <pow> ',
        ),
        'tagged': (
            '[Speaker] a chief[/]\n[Statement] Thanks.[/]',
            '[Intent] say Q: or A: or <int> or [|./] or "||"[/]\n[Power] [/]',
        ),
        'json': (
            '{"speaker": "a chief", "statement": "Thanks."}',
            '{"intent": "say Q: or A: or <int> or [/] or \\"|\\"", "power": ""}',
        ),
    }


@pytest.mark.parametrize('name', NAMES)
def test_fact_5_every_value_comes_back(name, frames) -> None:
    """Character by character; and up to white space where it is collapsed."""
    template = frame_template(name)
    for frame in frames:
        target = template.target(frame)
        report = template.parse(target)
        assert report.ok and report.values == frame.explanation()
        report = template.parse(collapsed(target))
        assert report.ok and same(report.values, frame.explanation())


@pytest.mark.parametrize('name', NAMES)
def test_some_slots_come_back_alone(name, frames) -> None:
    """In canonical order, however they are asked for."""
    template = frame_template(name)
    for frame in frames[:50]:
        target = template.target(frame, ('offensiveness', 'intent'))
        assert target == template.target(frame, ['intent', 'offensiveness'])
        report = template.parse(target, ('offensiveness', 'intent'))
        assert report.ok and report.found == ('intent', 'offensiveness')
        assert report.values == {slot: getattr(frame, slot) for slot in report.found}
        assert not template.parse(target).ok


def test_tokens_and_names_of_your_own_come_back() -> None:
    """With pipes in them, and parts of one another."""
    parts = (*ALL, '<|int|>', '<|', 'int|>', '|>', 'i.i', 'ai.i', '[Goal]', '[(a) b]', '(a) b]')
    tokens = dict(intent='<|int|>', power='i.i', implication='ai.i')
    for template in (
        SlotTokenTemplate(tokens),
        TaggedTemplate(dict(intent='Goal', power=' (a)  b', implication='.')),
    ):
        for frame in random_frames(300, parts, seed=1):
            target = template.target(frame)
            report = template.parse(target)
            assert report.ok and report.values == frame.explanation()
            assert same(template.parse(collapsed(target)).values, frame.explanation())


@pytest.mark.parametrize('name', NAMES)
def test_a_byte_level_tokenizer_keeps_everything(name, frames) -> None:
    """Its own end token inside a value apart, which is special to it."""
    template = frame_template(name)
    tokenizer = byte_level(template.tokens)
    for frame in frames[:150]:
        target = template.target(frame)
        if '</s>' not in target:
            assert through(tokenizer, target) == target


@pytest.mark.parametrize('name', NAMES)
def test_a_t5_tokenizer_collapses_white_space_alone(name) -> None:
    """Where its vocabulary has the characters; no value becomes a slot token."""
    template = frame_template(name)
    tokenizer = t5(template.tokens)
    parts = tuple(each for each in WORDS + MARKS + ANGLED + BRACED + BLANKS if each != '</s>')
    ids = tokenizer.convert_tokens_to_ids(list(template.tokens))
    assert len(ids) == len(set(ids)) and tokenizer.unk_token_id not in ids
    for frame in random_frames(200, parts, seed=2):
        target = template.target(frame)
        report = template.parse(through(tokenizer, target))
        assert report.ok and same(report.values, frame.explanation())
        marked = [each for each in tokenizer(target).input_ids if each in ids]
        assert marked == (ids[4:] if name == 'tokens' else [])


@pytest.mark.parametrize('name', NAMES)
def test_without_braces_and_backslashes_only_json_is_lost(name) -> None:
    """They, and the angle that tokens begin with, are unknown to T5's vocabulary."""
    template = frame_template(name)
    tokenizer = t5(template.tokens, '{}<\\^~`')
    reports = []
    for frame in random_frames(100, WORDS + MARKS + BLANKS, seed=3):
        report = template.parse(through(tokenizer, template.target(frame)))
        reports.append(report.ok and same(report.values, frame.explanation()))
    assert all(reports) if name != 'json' else not any(reports)


def test_official_answers_fail_where_a_value_has_a_question_mark_and_nowhere_else() -> None:
    """Fact 5: exactly the documented failures, here of values with ``Q:``."""
    template = QATemplate(parser='official')
    outcomes = []
    for frame in random_frames(1000, seed=4):
        target = collapsed(template.target(frame))
        right = same(template.parse(target).explanation(), frame.explanation())
        assert right == (not any('Q:' in value for value in frame.explanation().values()))
        outcomes.append(right)
    assert 100 < sum(outcomes) < 900
    lines = template.parse(template.target(plain_frame()))
    assert lines.values == dict(intent='the offensiveness is here')


@pytest.mark.parametrize('name', NAMES)
def test_fact_7_without_context_the_source_is_that_of_the_statement(name, frames) -> None:
    """The same in all contexts, and without a word of them."""
    template = frame_template(name)
    first, second = plain_frame(), plain_frame().model_copy(update=frames[0].context())
    assert digest(template.source(first, ())) == digest(template.source(second, ()))
    source = template.source(first, ())
    assert not any(value in source for value in first.context().values())
    assert first.statement in source
    other = first.model_copy(update=dict(statement='Good morning.'))
    assert template.source(other, ()) != source
    for shown in SUBSETS:
        source = template.source(first, shown)
        assert [n for n in CONTEXT if getattr(first, n) in source] == list(shown)


@pytest.mark.parametrize('name', NAMES)
def test_fact_8_each_slot_and_its_place_change_the_source(name) -> None:
    """And the tokens of it; the order in which slots are named does not."""
    template = frame_template(name)
    frame = plain_frame()
    texts = [frame.context()[name] for name in CONTEXT]
    sources = {
        template.source(frame.model_copy(update=dict(zip(CONTEXT, order, strict=True))))
        for order in itertools.permutations(texts)
    }
    sources |= {
        template.source(frame.model_copy(update={each: 'other'}))
        for each in (*CONTEXT, 'statement')
    }
    sources |= {template.source(frame, shown) for shown in SUBSETS}
    assert len(sources) == 6 + 4 + 7
    tokenizer = t5(template.tokens)
    assert len({tuple(tokenizer(source).input_ids) for source in sources}) == len(sources)
    assert template.source(frame, reversed(CONTEXT)) == template.source(frame, CONTEXT)


@pytest.mark.parametrize('name', ['tokens', 'tagged', 'json'])
def test_marked_sources_cannot_be_forged(name) -> None:
    """A situation with the mark of a speaker in it is no speaker."""
    template = frame_template(name)
    honest = frame_of(dict(situation='a', speaker='b', listener='c'))
    whole = template.source(honest, ('situation', 'speaker'))
    stolen = whole[whole.index('a') : whole.rindex('b') + 1]
    forged = honest.model_copy(update=dict(situation=stolen))
    assert template.source(forged, ('situation',)) != whole


def test_a_source_keeps_braces_of_the_frame() -> None:
    """They are text, not a field."""
    frame = frame_of(dict(situation='{speaker}', speaker='{', listener='}'), '{statement}')
    assert QATemplate().source(frame).splitlines()[0] == 'Scene: {speaker}'
    assert QATemplate().source(frame, ()).endswith(': {statement}')


@pytest.mark.parametrize('name', NAMES)
def test_unknown_slots_are_refused(name) -> None:
    """In all three directions."""
    template = frame_template(name)
    with pytest.raises(UserError, match=r"'speker' \(did you mean 'speaker'\?\)"):
        template.source(plain_frame(), ('speker',))
    with pytest.raises(UserError, match=r"no slot 'situation'.*known: intent, target_group"):
        template.target(plain_frame(), ('situation',))
    with pytest.raises(UserError, match="'powr'"):
        template.parse('', ('powr',))


def test_templates_are_built_from_names_and_configs() -> None:
    """And described by what their texts depend on."""
    for name, kind in TEMPLATES.items():
        built = frame_template(name)
        assert type(built) is kind and isinstance(built, FrameTemplate) and built.name == name
        assert frame_template(built) is built
        again = frame_template(dict(type=f'mmkd.{kind.__name__}'))
        assert type(again) is kind is TASK_UTILS.get(kind.__name__)
        assert json.loads(json.dumps(again.describe())) == built.describe()
    assert len({digest(frame_template(name).describe()) for name in NAMES}) == 4
    own = frame_template(dict(type='mmkd.SlotTokenTemplate', tokens=dict(intent='<goal>')))
    assert own.tokens[4] == '<goal>' and own.describe() != SlotTokenTemplate().describe()
    official = frame_template(dict(type='mmkd.QATemplate', parser='official'))
    assert official.describe() != QATemplate().describe()
    renamed = TaggedTemplate(dict(intent='Goal'))
    assert renamed.describe() != TaggedTemplate().describe()


@pytest.mark.parametrize(
    ('given', 'match'),
    [
        ('token', r"no frame template 'token' \(did you mean 'tokens'\?\); known: qa, tokens"),
        (dict(type='QaTemplate'), r"type 'QaTemplate' \(did you mean 'QATemplate'"),
        (dict(file='x.yaml'), 'of type None'),
        (dict(type='mmkd.SlotTokenTemplate', tokens=dict(intend='<i>')), "'intend' .*'intent'"),
        (dict(type='mmkd.TaggedTemplate', names=dict(intend='I')), "'intend' .*'intent'"),
        (dict(type='mmkd.QATemplate', parser='position'), "'known' or 'official', got 'position'"),
        (3, 'no frame template'),
    ],
)
def test_unknown_templates_and_options_are_refused(given, match) -> None:
    """With the nearest that is known."""
    with pytest.raises(UserError, match=match):
        frame_template(given)


@pytest.mark.parametrize('token', ['', '<', '<a b>', '|a>', '<a|', '.a', '<||>', '<|.>', '<a> '])
def test_tokens_that_escapes_cannot_break_are_refused(token) -> None:
    """The message names the slot."""
    with pytest.raises(UserError, match='tokens of SlotTokenTemplate: power: .* is no token'):
        SlotTokenTemplate(dict(power=token))


@pytest.mark.parametrize('name', ['', ' ', '/', 'a]', '[a', 'a|b'])
def test_names_with_marks_are_refused(name) -> None:
    """The message names the slot."""
    with pytest.raises(UserError, match='names of TaggedTemplate: power: .* is no name'):
        TaggedTemplate(dict(power=name))


def test_the_same_mark_for_two_slots_is_refused() -> None:
    """Names are the same in any case."""
    with pytest.raises(UserError, match="power and intent are both '<int>'"):
        SlotTokenTemplate(dict(power='<int>'))
    with pytest.raises(UserError, match="power and intent are both 'intent'"):
        TaggedTemplate(dict(power='INTENT'))


def changed(path, *keys, value=None):
    """The default wording in a file with one key changed; None: without it."""
    content = yaml.safe_load(DEFAULT_FILE.read_text(encoding='utf-8'))
    place = content
    for key in keys[:-1]:
        place = place[key]
    place.pop(keys[-1], None)
    if value is not None:
        place[keys[-1]] = value
    file = path / 'own.yaml'
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding='utf-8')
    return file


def test_a_file_of_your_own_changes_texts(tmp_path) -> None:
    """Other words, the same frame."""
    file = changed(tmp_path, 'questions', 'power', value='Who leads?')
    template = QATemplate(file)
    assert template.target(plain_frame(), ('power',)) == 'Q: Who leads? A: the power is here'
    assert template.parse(template.target(plain_frame())).values == plain_frame().explanation()
    assert template.describe() != QATemplate().describe()
    copy = tmp_path / 'copy.yaml'
    copy.write_bytes(DEFAULT_FILE.read_bytes())
    assert QATemplate(copy).describe() == QATemplate().describe()
    file = changed(tmp_path, 'source', 'without_context', value='{{x}} {statement}\n')
    assert QATemplate(file).source(plain_frame(), ()) == '{x} Well done.\n'


@pytest.mark.parametrize(
    ('keys', 'value', 'match'),
    [
        (('questions', 'power'), None, 'questions.power: Field required'),
        (('questions', 'powr'), 'x', r"questions.powr: unknown key \(did you mean 'power'\?\)"),
        (('questions', 'power'), 3, 'questions.power: .*valid string'),
        (('questions', 'power'), ' ', 'questions.power: is empty'),
        (('questions', 'power'), 'Why A: this?', 'questions.power: must not contain Q: or A:'),
        (
            ('questions', 'power'),
            'What are these words \n meant to bring about?',
            'questions.power: is the same as questions.intent',
        ),
        (('source',), None, 'source: Field required'),
        (('sources',), {}, r"sources: unknown key \(did you mean 'source'"),
        (('source', 'hiden'), {}, r"source.hiden: unknown key \(did you mean 'hidden'"),
        (('source', 'hidden', 'speaker'), None, 'source.hidden.speaker: Field required'),
        (('source', 'hidden', 'speeker'), 'x', r"speeker: unknown key \(did you mean 'speaker'"),
        (
            ('source', 'with_context'),
            '{situation} {speaker} {statement}',
            'source.with_context: must have just .*{listener}, {statement} in braces, got {sit',
        ),
        (('source', 'without_context'), '{speaker} {statement}', 'source.without_context: must'),
        (('source', 'without_context'), '{statement!r}', 'source.without_context: must'),
        (('source', 'without_context'), '{statement:>9}', 'source.without_context: must'),
        (('source', 'without_context'), '{statement', 'source.without_context: .*double a brace'),
    ],
)
def test_faults_of_a_file_name_file_and_key(tmp_path, keys, value, match) -> None:
    """One line each."""
    file = changed(tmp_path, *keys, value=value)
    with pytest.raises(UserError, match=match) as caught:
        QATemplate(file)
    assert str(file) in str(caught.value) and '\n' not in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path) -> None:
    """No file, no YAML, no mapping."""
    with pytest.raises(UserError, match='gone.yaml: there is no such file of templates'):
        QATemplate(tmp_path / 'gone.yaml')
    bad = tmp_path / 'bad.yaml'
    for text, match in (('a: [', 'no YAML'), ('- a', 'bad.yaml: the file: ')):
        bad.write_text(text)
        with pytest.raises(UserError, match=match):
            QATemplate(bad)


def test_our_own_questions_cannot_be_mistaken_for_each_other() -> None:
    """A broken one is nearer to itself than to any other."""
    questions = list(QATemplate().questions.values())
    pairs = itertools.permutations(questions, 2)
    assert max(difflib.SequenceMatcher(None, a, b).ratio() for a, b in pairs) < 0.6
    assert len(questions) == len(SLOTS)


def test_the_wording_is_a_file_of_the_package() -> None:
    """And is found as such."""
    assert (
        files('mmkd.cobra.texts')
        .joinpath('templates.yaml')
        .read_text('utf-8')
        .startswith('# Wording')
    )
    assert JsonTemplate().tokens == TaggedTemplate().tokens == ()
