"""Parsers: every slot is found by its own mark, or reported; nothing shifts in silence."""

import json
import re

import pytest
from frame_cases import QUESTIONS, collapsed
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.cobra.schema import SLOTS
from mmkd.cobra.texts.escaping import any_of, breakable, escape, unescape
from mmkd.cobra.texts.parsing import (
    ParseReport,
    parse_json,
    parse_official,
    parse_qa,
    parse_tagged,
    parse_tokens,
)
from mmkd.cobra.texts.slot_templates import NAMES, TOKENS

VALUES = {slot: f'value of {slot}' for slot in SLOTS}
KINDS = ('qa', 'tokens', 'tagged', 'json')


def segment(kind: str, slot: str, value: str) -> str:
    """A slot as the parser of this kind expects it."""
    return {
        'qa': f'Q: {QUESTIONS.get(slot)} A: {value}',
        'tokens': f'{TOKENS[slot]} {value}',
        'tagged': f'[{NAMES[slot]}] {value}[/]',
        'json': f'{json.dumps(slot)}: {json.dumps(value)}',
    }[kind]


def text_of(kind: str, parts: list[tuple[str, str]]) -> str:
    """Slots with their values in the order that is given."""
    segments = [segment(kind, *part) for part in parts]
    return '{' + ', '.join(segments) + '}' if kind == 'json' else '\n'.join(segments)


def parsed(kind: str, text: str, slots: tuple[str, ...] = SLOTS) -> ParseReport:
    """The report of the parser of this kind."""
    return {
        'qa': lambda: parse_qa(text, QUESTIONS, slots),
        'tokens': lambda: parse_tokens(text, TOKENS, slots),
        'tagged': lambda: parse_tagged(text, NAMES, slots),
        'json': lambda: parse_json(text, slots),
    }[kind]()


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet='QA:<>int|. \n[/]', max_size=12))
def test_escapes_are_undone_and_hide_every_marker(value) -> None:
    """Also of values that look like escapes, and after white space is collapsed."""
    markers = r'(?<!\w)[QA]:|<int>|\[/\]|\[int\]'
    escaped = escape(value, re.compile(f'(?={markers})'))
    assert not re.search(markers, escaped)
    assert unescape(f' {escaped}\n') == value
    assert collapsed(unescape(collapsed(escaped))) == collapsed(value)


@settings(max_examples=600, deadline=None)
@given(
    st.text(alphabet='ab|.', min_size=1, max_size=4),
    st.lists(st.text(alphabet='ab|.', max_size=5), max_size=2),
)
def test_a_breakable_marker_never_occurs_in_an_escaped_value(marker, around) -> None:
    """Whatever pipes and dots are in the marker and around it."""
    value = marker.join(around) + marker
    escaped = escape(value, re.compile(f'(?={any_of([marker])})'))
    assert unescape(escaped) == value
    assert not (breakable(marker) and marker in escaped)


def test_escapes_are_those_that_are_documented() -> None:
    """And a text that was never escaped keeps its pipes."""
    markers = re.compile('(?=<int>)')
    assert escape('a|b <int>', markers) == 'a||b <|.int>'
    assert escape(' a\n', markers) == '|. a\n|.'
    assert escape(' ') == '|. |.'
    assert escape('') == ''
    assert unescape('  a | b|c ') == 'a | b|c'
    assert [breakable(each) for each in ('<int>', '<|int|>', 'x', '|x>', '<x|', '.x', 'a||b')] == [
        *(True, True),
        *(False,) * 5,
    ]


@pytest.mark.parametrize('kind', KINDS)
def test_all_slots_in_order_are_ok(kind) -> None:
    """With newlines and without."""
    text = text_of(kind, list(VALUES.items()))
    for each in (text, collapsed(text)):
        report = parsed(kind, each)
        assert report == ParseReport(VALUES, SLOTS, (), (), (), True)
        assert report.ok and report.explanation() == VALUES
        assert list(report.values) == list(SLOTS)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('gone', SLOTS)
def test_a_missing_slot_shifts_nothing(kind, gone) -> None:
    """All others keep their values."""
    left = {slot: value for slot, value in VALUES.items() if slot != gone}
    report = parsed(kind, text_of(kind, list(left.items())))
    assert report.values == left and report.missing == (gone,) and not report.ok
    assert report.explanation() == {**left, gone: ''} and list(report.explanation()) == list(SLOTS)
    assert report.found == tuple(left) and report.order_ok
    assert report.duplicated == report.extra == ()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('place', [0, 3, 7])
def test_a_duplicated_slot_is_reported_and_the_first_counts(kind, place) -> None:
    """Wherever it stands."""
    parts = list(VALUES.items())
    parts.insert(place, ('implication', 'another'))
    report = parsed(kind, text_of(kind, parts))
    first = 'another' if place < 4 else VALUES['implication']
    assert report.values == {**VALUES, 'implication': first}
    assert report.duplicated == ('implication',) and not report.ok
    assert report.missing == report.extra == ()
    assert report.order_ok == (place >= 3)


@pytest.mark.parametrize('kind', KINDS)
def test_reordered_slots_keep_their_values(kind) -> None:
    """Only their order is at fault."""
    report = parsed(kind, text_of(kind, list(reversed(VALUES.items()))))
    assert report == ParseReport(VALUES, SLOTS, (), (), (), False) and not report.ok


@pytest.mark.parametrize('kind', KINDS)
def test_slots_that_nobody_asked_for_are_extra(kind) -> None:
    """They end the values before them all the same."""
    text = text_of(kind, list(VALUES.items()))
    report = parsed(kind, text, ('intent', 'offensiveness'))
    assert report.values == {slot: VALUES[slot] for slot in ('intent', 'offensiveness')}
    assert report.missing == report.duplicated == () and len(report.extra) == 5
    assert report.order_ok and not report.ok
    assert all(VALUES[slot] in text for slot, text in zip(SLOTS[1:6], report.extra, strict=True))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('text', ['', ' \n', 'I would rather not.', '{', 'Q: A:', '[/]'])
def test_a_text_without_slots_has_none(kind, text) -> None:
    """All of it is extra."""
    report = parsed(kind, text)
    assert report.values == {} and report.missing == SLOTS and not report.ok
    left = () if kind == 'tagged' and text == '[/]' else tuple(filter(None, [text.strip()]))
    assert report.extra == left


@pytest.mark.parametrize('kind', ['qa', 'tokens', 'tagged'])
def test_text_before_the_first_slot_is_extra(kind) -> None:
    """Such as a greeting."""
    report = parsed(kind, 'Here you are: ' + text_of(kind, list(VALUES.items())))
    assert report.values == VALUES and report.extra == ('Here you are:',) and not report.ok


@pytest.mark.parametrize('kind', ['tagged', 'json'])
def test_slots_of_a_context_are_parsed_in_the_order_that_is_asked_for(kind) -> None:
    """A teacher is asked for contexts as well."""
    slots = ('situation', 'speaker')
    report = parsed(kind, text_of(kind, [('situation', 'at work'), ('speaker', 'a chief')]), slots)
    assert report.ok and report.values == dict(situation='at work', speaker='a chief')
    assert report.explanation() == dict.fromkeys(SLOTS, '')


def test_questions_are_matched_exactly_or_nearly() -> None:
    """Exactly up to white space; nearly from a ratio of 0.8 on."""
    questions = dict(intent='abcdefghij', power='klmnopqrst')
    assert parse_qa('Q: abcdefghij A: x', questions).values == dict(intent='x')
    assert parse_qa('Q: abcdefgh__ A: x', questions).values == dict(intent='x')  # 2 * 8 / 20
    assert parse_qa('Q: abcdefg___ A: x', questions).values == {}  # 2 * 7 / 20
    assert parse_qa('Q:klmnopqrst\nA:x', questions).values == dict(power='x')
    long = 'why is that so ' * 20
    assert parse_qa(f'Q: {long} A: x', dict(intent=long)).values == dict(intent='x')


def test_an_exact_question_wins_over_one_that_is_similar() -> None:
    """Questions that differ in one word are told apart, and a broken one goes to the nearest."""
    questions = dict(
        emotional='How do these people feel about it now?',
        cognitive='How do these people feel about it later?',
    )
    text = '\n'.join(f'Q: {each} A: {slot}' for slot, each in reversed(questions.items()))
    assert parse_qa(text, questions).values == {slot: slot for slot in questions}
    broken = text.replace('later?', 'laterr?')
    assert parse_qa(broken, questions).values == {slot: slot for slot in questions}


def test_a_broken_question_of_a_slot_that_is_there_is_a_duplicate() -> None:
    """It is not taken for another slot."""
    again = QUESTIONS['intent'].replace('words', 'wrods')
    text = text_of('qa', list(VALUES.items())) + f'\nQ: {again} A: again'
    report = parsed('qa', text)
    assert report.values == VALUES and report.duplicated == ('intent',)


def test_an_unknown_question_ends_no_value_and_is_reported() -> None:
    """Every other slot keeps its place."""
    parts = list(VALUES.items())
    parts[2] = ('power', 'see the FAQ: here. Q: Who wrote it? A: me')
    report = parsed('qa', text_of('qa', parts))
    assert report.values == dict(parts)
    assert report.extra == ('Q: Who wrote it? A: me',) and not report.ok
    assert parsed('qa', 'Q: Who wrote it? A: me').extra == ('Q: Who wrote it? A: me',)


def test_tags_may_be_open_and_in_any_case() -> None:
    """An open value ends with its line, and what follows is extra, not a part of it."""
    text = '[INTENT] a\nmore\n[target  group]\n  b[/] c [Power] d [Colour] red[/]\n[Implication] e'
    report = parsed('tagged', text)
    assert report.values == dict(
        intent='a', target_group='b', power='d [Colour] red', implication='e'
    )
    assert report.extra == ('more', 'c')
    report = parsed('tagged', '[Power] d[/]\n[Colour] red[/]\n[Implication]\n e\nThat is all.')
    assert report.values == dict(power='d', implication='e')
    assert report.extra == ('[Colour] red', 'That is all.')


def test_json_is_found_in_a_fence_and_in_prose() -> None:
    """Braces of the prose do not matter, nor an object around it or newlines in a text."""
    whole = text_of('json', list(VALUES.items()))
    for text in (
        f'```json\n{whole}\n```',
        f'As {{you}} wished: {whole} Is {{}} it {{"fine": 1}}?',
        f'{{"frame": {whole}}}',
        json.dumps(VALUES, indent=2),
    ):
        assert parsed('json', text) == ParseReport(VALUES, SLOTS, (), (), (), True)
    assert parsed('json', '{"intent": "a\nb"}').values == dict(intent='a\nb')
    inner = parsed('json', '{"intent": "a", "more": {"intent": "b"}}')
    assert inner.values == dict(intent='a') and inner.duplicated == ()
    assert parsed('json', '{"a":' * 3000).values == {}


def test_json_reports_keys_that_come_twice_and_values_that_are_no_text() -> None:
    """Nothing is cast."""
    text = '{"power": "x", "intent": 3, "power": "y", "implication": null, "colour": "red",'
    report = parsed('json', text + ' "emotional": ["a"], "cognitive": {"a": 1}} {"power": "z"}')
    assert report.values == dict(power='x') and report.duplicated == ('power',)
    assert report.extra == (
        *('intent: 3', 'implication: null', 'colour: red'),
        *('emotional: ["a"]', 'cognitive: {"a": 1}'),
    )
    assert report.missing == tuple(slot for slot in SLOTS if slot != 'power')


def test_the_official_parser_goes_by_position() -> None:
    """It pads and cuts, and shifts after a segment that is missing."""
    text = collapsed(text_of('qa', list(VALUES.items())))
    assert parse_official(text) == ParseReport(VALUES, SLOTS, (), (), (), True)
    left = [part for part in VALUES.items() if part[0] != 'power']
    report = parse_official(collapsed(text_of('qa', left)))
    assert report.missing == ('offensiveness',)
    assert report.values['power'] == VALUES['implication']
    assert report.values['cognitive'] == VALUES['offensiveness']
    swapped = parse_official(collapsed(text_of('qa', list(reversed(VALUES.items())))))
    assert list(swapped.values.values()) == list(reversed(VALUES.values())) and swapped.ok


def test_the_official_parser_finds_only_the_last_answer_among_lines() -> None:
    """And gives it to the first slot."""
    report = parse_official(text_of('qa', list(VALUES.items())))
    assert report.values == dict(intent=VALUES['offensiveness'])
    assert report.missing == SLOTS[1:]


def test_marks_inside_a_value_mislead_the_official_parser() -> None:
    """``Q:`` cuts, ``Q:`` with ``A:`` shifts all that follows, ``A:`` alone does nothing."""

    def with_power(value: str) -> ParseReport:
        return parse_official(collapsed(text_of('qa', list({**VALUES, 'power': value}.items()))))

    assert with_power('in the USA: A: x').values == {**VALUES, 'power': 'in the USA: A: x'}
    assert with_power('see the FAQ: x').values == {**VALUES, 'power': 'see the FA'}
    report = with_power('see the FAQ: x A: y')
    values = list(VALUES.values())
    assert list(report.values.values()) == [*values[:2], 'see the FA', 'y', *values[3:6]]
    assert report.extra == (values[6],) and not report.ok
