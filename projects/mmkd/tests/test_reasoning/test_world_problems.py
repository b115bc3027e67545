"""The world's problems: solved by their text alone, in splits that do not meet, fair options."""

import re
from collections import Counter

import pytest

from mmdistill.core.errors import UserError
from mmkd.reasoning import words
from mmkd.reasoning.explain import Detail, asked_detail, explanation
from mmkd.reasoning.problem import LEVELS
from mmkd.reasoning.solver import solve
from mmkd.reasoning.world import FAMILIES, make_problem, split_of
from mmkd.traces.options import listed_options

DRAWS = 60
"""Of every family and level."""


def problems(families=tuple(FAMILIES), levels=LEVELS, draws=DRAWS, seed=0):
    """Problems of every wording, with options and without."""
    return [
        make_problem(family, seed, index, level, index % 4, index % 3 == 0)
        for family in families
        for level in levels
        for index in range(draws)
    ]


@pytest.fixture(scope='module')
def drawn():
    return problems()


def test_the_solver_finds_family_states_and_answer_in_the_text_alone(drawn):
    assert len(drawn) == 10 * 6 * DRAWS
    for each in drawn:
        found = solve(each.question)
        assert found is not None, each.question
        assert found.family == each.family
        assert tuple(step.state for step in found.steps) == each.steps, each.question
        assert found.answer == each.answer, each.question
        assert found.wrong_answer != each.answer


@pytest.mark.parametrize(
    ('question', 'answer'),
    [
        ('What is ( ( 3 + 4 ) * 2 ) - 5?', '9'),
        ('Find ( ( true and not false ) xor true ) or false.', 'false'),
        ('Close the brackets: ( [ { } (', ') ] )'),
        ('The coin shows tails. Kim flips it. Kim lets it be. What does it show?', 'heads'),
        ('I see 2 apples, 3 dogs, 4 plums. How many fruits do I see?', '6'),
        (
            'The list is red blue green pink. Reverse it. Swap the first two. What is first?',
            'green',
        ),
        ('You are at 5 5 and face north. Turn right. Walk 2. Turn round. Where are you?', '7 5'),
        ('Kim is in line. Ned goes to the front. Tom goes behind Ned. Who is third?', 'Kim'),
        (
            'Kim has red, Ned has blue, Tom has green. Kim and Tom swap. Tom and Ned swap. '
            'What does Ned have?',
            'red',
        ),
        ('It is Sunday. Go 3 days on. Go 5 days back. Which day is it?', 'Friday'),
        ('It is Sunday. Go 2 days on. Which day is it?\nOptions:\n(A) Monday\n(B) Tuesday', '(B)'),
    ],
)
def test_answers_that_were_found_by_hand(question, answer):
    assert solve(question).answer == answer


@pytest.mark.parametrize(
    'question',
    ['', 'Who wrote it?', 'What is 3 + ( 4 * 2 )?', 'Close the brackets:', 'It is Sunday.'],
)
def test_what_the_world_does_not_ask_has_no_solution(question):
    assert solve(question) is None


def test_steps_end_in_the_answer(drawn):
    for each in drawn:
        found = solve(each.question)
        assert len(found.steps) == each.difficulty * (2 if each.family == 'brackets' else 1)
        full, states, short = (explanation(found, each) for each in reversed(Detail))
        assert short == each.answer
        for text in (full, states):
            assert text.endswith(f' The answer is {each.answer}.')
            assert '\n' not in text and '  ' not in text
        assert all(step.action in full and step.state in full for step in found.steps)
        if each.options:
            right = each.options['ABCD'.index(each.answer[1])]
            assert f' {right} is {each.answer}. The answer' in full
            assert right in found.steps[-1].state
        else:
            assert each.answer in found.steps[-1].state


def test_a_slip_changes_a_step_and_what_follows_from_it():
    for each in problems(levels=(3,), draws=30):
        right = solve(each.question)
        for number in range(len(right.steps)):
            wrong = solve(each.question, slip=number)
            assert wrong.steps[:number] == right.steps[:number]
            assert wrong.steps[number].state != right.steps[number].state
        assert wrong.answer != right.answer or each.options
    late = solve('What is ( 3 + 4 ) * 2?', slip=0)
    assert [step.state for step in late.steps] == ['8', '16'] and late.answer == '16'


def test_options_have_the_answer_once_and_at_every_place_alike():
    places = {}
    for family in FAMILIES:
        for index in range(600):
            each = make_problem(family, 3, index, 1 + index % 6, 0, True)
            letters, texts = listed_options(each.question)
            assert texts == each.options and len(set(texts)) == len(texts) >= 2
            free = make_problem(family, 3, index, 1 + index % 6)
            assert texts.count(free.answer) == 1
            assert each.answer == f'({letters[texts.index(free.answer)]})'
            places.setdefault((family, len(texts)), Counter())[each.answer] += 1
    for (_, size), counts in places.items():
        total = sum(counts.values())
        bound = 4.5 * (total / size * (1 - 1 / size)) ** 0.5 + 1
        for letter in words.LETTERS[:size]:
            assert abs(counts[f'({letter})'] - total / size) < bound


@pytest.mark.parametrize('family', ['arithmetic', 'counting'])
def test_the_rank_of_a_number_among_the_options_tells_nothing(family):
    ranks = Counter()
    for index in range(1200):
        each = make_problem(family, 0, index, 4, 0, True)
        numbers = sorted(map(int, each.options))
        right = int(each.options['ABCD'.index(each.answer[1])])
        if right > 3:
            ranks[numbers.index(right)] += 1
    assert len(ranks) == 4 and max(ranks.values()) < 1.35 * min(ranks.values())


def test_the_same_numbers_give_the_same_problem_and_others_another():
    first = make_problem('swaps', 0, 5, 3, 1, True)
    assert first == make_problem('swaps', 0, 5, 3, 1, True)
    assert len({make_problem('swaps', s, n, 3).core for s in (0, 1) for n in range(20)}) == 40
    assert first.core == make_problem('swaps', 0, 5, 3, -1).core


def test_problems_stay_what_they_are():
    assert make_problem('arithmetic', 0, 0, 3).question == 'What is ( ( 6 + 4 ) - 8 ) * 2?'
    assert make_problem('coins', 7, 1, 2, -1, True).question == (
        'The coin shows tails. Max lets it be. Max lets it be. Find what it shows.\nOptions:\n'
        '(A) heads\n(B) tails'
    )
    splits = [split_of(make_problem('swaps', 0, index, 3).core) for index in range(10)]
    assert ' '.join(splits) == 'train dev test train train train train dev train train'


def test_splits_have_their_shares_and_depend_on_what_is_asked_alone(drawn):
    cores = sorted({each.core for each in drawn})
    shares = Counter(map(split_of, cores))
    for name, share in dict(train=0.8, dev=0.1, test=0.1).items():
        assert abs(shares[name] / len(cores) - share) < 4.5 * (0.16 / len(cores)) ** 0.5
    for each in drawn[:200]:
        words_of_it = re.findall(r'\w+|[^\w\s]', each.core.split(' | ')[1])
        assert ' '.join(re.findall(r'\w+|[^\w\s]', each.question)).count(' '.join(words_of_it)) >= 1


def test_held_out_wordings_have_known_words_alone():
    known = {
        word
        for family in FAMILIES.values()
        for template in family.templates[:-1]
        for word in re.findall(r' ?\w+', template)
    }
    for family in FAMILIES.values():
        assert len(set(family.templates)) == 4
        assert set(re.findall(r' ?\w+', family.templates[-1])) <= known


def test_no_capital_in_an_explanation_could_be_an_option(drawn):
    for each in drawn:
        text = explanation(solve(each.question), Detail.FULL)
        assert not re.search('[A-D]', re.sub(r'\([A-D]\)', '', text))


@pytest.mark.parametrize(
    ('system', 'detail'),
    [
        ('', Detail.STATES),
        ('You are a helper.', Detail.STATES),
        ('Give only the answer.', Detail.ANSWER),
        ('Think step by step and justify your answer.', Detail.FULL),
        ('Explain like I am five.', Detail.FULL),
        ('Tell only the answer, no steps.', Detail.ANSWER),
    ],
)
def test_system_messages_ask_for_details(system, detail):
    assert asked_detail(system) is detail


def test_unknown_names_and_numbers_are_named():
    with pytest.raises(UserError, match="no family 'swap'.*did you mean 'swaps'"):
        make_problem('swap', 0, 0, 2)
    with pytest.raises(UserError, match='difficulty must be 1 to 6, got 7'):
        make_problem('swaps', 0, 0, 7)
    with pytest.raises(UserError, match='template of swaps must be 0 to 3.*got 4'):
        make_problem('swaps', 0, 0, 2, 4)
