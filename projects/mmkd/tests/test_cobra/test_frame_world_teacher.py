"""The world's teacher through the whole pipeline: what comes out is what the rules say."""

from collections import Counter

import pytest

from mmdistill.core.errors import UserError
from mmkd.cobra.generation.options import Options
from mmkd.cobra.generation.pipeline import Generation
from mmkd.cobra.schema import SLOTS
from mmkd.cobra.tables.statements import Statement
from mmkd.cobra.world.data import WorldFrames
from mmkd.cobra.world.draw import statements
from mmkd.cobra.world.rules import explain, label, saying_of, scene_of
from mmkd.cobra.world.teacher import FrameWorldTeacher


def generated(folder, form='tagged', shares=None, **options):
    """Frames of ten statements, and the report."""
    teacher = dict(type='mmkd.FrameWorldTeacher', seed=3, **(shares or {}))
    asked = [Statement(each.text, each.field, 'world', 'test') for each in statements('test')[:10]]
    shown = [*WorldFrames('train', 20).frames, *WorldFrames('dev', 10, 'pairs').frames]
    run = Generation(
        dict(teacher=teacher), asked, shown, folder / 'run', Options(form=form), **options
    )
    run.run(say=lambda text: None)
    return run.frames(), run.report()


@pytest.mark.parametrize('form', ['tagged', 'json'])
def test_three_contexts_of_every_statement_are_explained_by_the_rules(tmp_path, form) -> None:
    """Nothing is lost between prompt, answer and table."""
    frames, _ = generated(tmp_path, form=form)
    whole = [each for each in frames if each.provenance.status == 'ok']
    assert len(frames) == 30 and len(whole) >= 28  # a context may be drawn twice
    for each in whole:
        saying = saying_of(each.statement)
        assert each.explanation() == explain(saying, scene_of(saying, **each.context()))
        assert each.provenance.model == 'frame-world' and each.provenance.prompt_hash
    assert max(Counter(each.statement_id for each in frames).values()) == 3


def test_counterfactual_contexts_turn_the_effect_round(tmp_path) -> None:
    """Both sides of each pair are there, and one of them is a slight."""
    frames, _ = generated(tmp_path, counterfactual=True)
    pairs: dict[str, list] = {}
    for each in frames:
        pairs.setdefault(each.pair_id, []).append(each)
    assert len(pairs) == 10
    for sides in pairs.values():
        labels = []
        for each in sides:
            saying = saying_of(each.statement)
            labels.append(label(saying, scene_of(saying, **each.context())))
            assert not each.missing(SLOTS)
        assert sorted(labels) == [0, 1] and sorted(each.side for each in sides) == ['A', 'B']


def test_refusals_and_malformed_answers_are_counted(tmp_path) -> None:
    """Shares come near what was asked for; the seed decides which."""
    frames, report = generated(tmp_path, shares=dict(refuse=0.3, malform=0.2))
    found = Counter(each.provenance.status.partition(':')[0] for each in frames)
    assert found['refused'] >= 3 and found['incomplete'] >= 1 and found['ok'] >= 5
    assert 'refus' in str(report)
    with pytest.raises(UserError, match='refuse must lie in'):
        FrameWorldTeacher(refuse=1.5)
