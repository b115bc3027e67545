"""Frames in mmengine's evaluator: scores, sanity, ranks, the file of predictions, silence."""

import json

import pytest
from mmengine.evaluator import Evaluator

from mmdistill.core.errors import UserError
from mmdistill.testing import captured_log, run_gloo
from mmkd.cobra.schema import SLOTS, Frame, statement_id
from mmkd.evaluation.frames.counterfactual import Judged, pair_scores, row_scores
from mmkd.evaluation.frames.frame_metric import FrameMetric
from mmkd.evaluation.frames.text import score_texts

CANARY = 'canary 8117 thanks the whole team'
KINDS = ('not offensive', 'microaggression')


def frame(index, **more):
    """Frame of the pair ``index // 2``; the second one of a pair is labelled offensive."""
    statement = f'{CANARY} {index // 2}'
    values = {slot: f'{slot} of the frame number {index}' for slot in SLOTS}
    fields = dict(
        frame_id=f'f{index}',
        statement_id=statement_id(statement),
        statement=statement,
        situation=f'{CANARY} at work',
        pair_id=f'p{index // 2}',
        side='AB'[index % 2],
        label_majority=index % 2,
        group=['makers', 'cooks', None][index % 3],
        **{**values, 'offensiveness': KINDS[index % 2]},
    )
    return Frame(**{**fields, **more})


def sample(reference, prediction=None, format_ok=True, text=CANARY):
    """A data sample; by default the student says what its reference does."""
    if prediction is None:
        prediction = reference.explanation()
    return dict(frame=reference, prediction=prediction, format_ok=format_ok, text=text)


def scored(samples, **options):
    """Scores."""
    metric = FrameMetric(**options)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def mixed():
    """Samples with all kinds of faults."""
    frames = [frame(k) for k in range(12)]
    samples = [sample(each) for each in frames]
    samples[1] = sample(frames[1], dict(intent='something else'), False)
    samples[2] = sample(frames[2], dict(frames[2].explanation(), offensiveness='racism'))
    samples[4] = sample(frame(4, label_majority=-1, power=''))
    return samples


def test_scores_are_those_of_the_functions():
    samples = mixed()
    found = scored(samples, any_reference=True)
    for slot in SLOTS:
        rows = [each for each in samples if getattr(each['frame'], slot)]
        wanted = score_texts(
            [each['prediction'].get(slot, '') for each in rows],
            [getattr(each['frame'], slot) for each in rows],
        )
        for name in ('bleu2', 'rouge_l', 'chrf', 'exact', 'degenerate', 'n'):
            assert found[f'{name}/{slot}'] == getattr(wanted, name), (name, slot)
    assert found['exact_any/intent'] == found['exact/intent'] == 11 / 12
    assert found['n/power'] == 11 and found['n/intent'] == found['n'] == 12
    for name in ('bleu2', 'rouge_l', 'chrf', 'exact'):
        mean = sum(found[f'{name}/{slot}'] for slot in SLOTS) / 7
        assert found[f'{name}/mean'] == pytest.approx(mean)
    assert found['format_ok'] == pytest.approx(11 / 12)
    said = [0, None, 1, *([0, 1] * 5)[1:]]
    labels = [0, 1, 0, 1, -1, 1] + [0, 1] * 3
    judged = [Judged(*each, f'p{k // 2}') for k, each in enumerate(zip(labels, said, strict=False))]
    wanted = {**row_scores(judged), **pair_scores(judged)}
    assert {k[3:]: v for k, v in found.items() if k.startswith('cf/')} == wanted
    assert found['cf/accuracy'] == 9 / 11 and found['cf/coverage'] == 10 / 11
    assert found['cf/pairs'] == 5 and found['cf/incomplete'] == 1
    assert found['cf/pair_accuracy'] == 3 / 5 and found['cf/flip'] == 3 / 5


def test_students_without_context_get_half_of_the_rows():
    samples = [
        sample(frame(k), dict(intent='same', offensiveness=KINDS[k // 2 % 2])) for k in range(14)
    ]
    found = scored(samples[::-1])
    assert found['cf/accuracy'] == 0.5 and found['cf/coverage'] == 1
    assert found['cf/pair_accuracy'] == found['cf/flip'] == 0
    assert found['cf/always_same'] == 1 and found['cf/pairs'] == 7


def test_students_without_context_may_meet_any_reference():
    """They say what the first frame of each statement says."""
    samples = [sample(frame(k), frame(k - k % 2).explanation()) for k in range(8)]
    found = scored(samples, any_reference=True)
    assert found['exact/mean'] == 0.5 and found['exact_any/mean'] == 1
    assert found['bleu2_any/mean'] == pytest.approx(1) and found['bleu2/mean'] < 0.95
    assert not [name for name in scored(samples) if '_any' in name]


def test_garbage_at_the_end_lowers_scores():
    frames = [frame(k) for k in range(6)]
    longer = [
        sample(f, {k: v + ' and so on and on' for k, v in f.explanation().items()}) for f in frames
    ]
    good, bad = scored([sample(each) for each in frames]), scored(longer)
    for slot in SLOTS:
        for name in ('bleu2', 'rouge_l', 'chrf', 'exact'):
            assert bad[f'{name}/{slot}'] < good[f'{name}/{slot}'] == pytest.approx(1), (name, slot)


def test_single_words_are_called_degenerate():
    words = dict.fromkeys(SLOTS, 'word')
    found = scored([sample(frame(k, **words)) for k in range(2)], labels=None)
    assert found['bleu2/mean'] == 0 and found['exact/mean'] == 1
    assert all(found[f'degenerate/{slot}'] == 1 for slot in SLOTS)
    assert not [name for name in found if name.startswith('cf/')]


def test_slots_and_prefix():
    found = scored(mixed(), slots=['intent'], prefix='val')
    assert found['val/bleu2/mean'] == found['val/bleu2/intent']
    assert 'val/bleu2/power' not in found and 'val/cf/accuracy' in found


def test_labels_of_references():
    """The annotators' labels are not looked at."""
    frames = [frame(k, label_majority=None, label_all=1) for k in range(4)]
    frames[3] = frame(3, offensiveness='  ')
    samples = [sample(each) for each in frames[:3]] + [sample(frames[3], dict(power='x'))]
    found = scored(samples, labels='binarized')
    assert found['cf/accuracy'] == 1 and (found['cf/n'], found['cf/excluded']) == (3, 1)
    official = scored(samples, labels='binarized', binarizer='official_v1')
    assert (official['cf/n'], official['cf/excluded']) == (3, 1)
    assert scored(samples, labels='label_all')['cf/accuracy'] == pytest.approx(1 / 3)


def test_binarizers_differ():
    samples = [sample(frame(0), dict(offensiveness='inoffensive')), sample(frame(1))]
    assert scored(samples)['cf/accuracy'] == 1
    assert scored(samples, binarizer='official_v1')['cf/accuracy'] == 0.5


def test_groups():
    samples = mixed()
    found = scored(samples, by_group=True, min_group=4)
    own = scored([each for each in samples if each['frame'].group == 'makers'])
    for name in ('bleu2/mean', 'chrf/mean', 'format_ok', 'cf/accuracy', 'n'):
        assert found[f'group/makers/{name}'] == own[name]
    assert found['group/cooks/n'] == 4 and 'group/None/n' not in found
    assert 'group/makers/bleu2/intent' not in found
    few = scored(samples, by_group=True)
    assert {k: v for k, v in few.items() if k.startswith('group')} == {
        'group/makers/n': 4,
        'group/cooks/n': 4,
    }


def test_the_file_of_predictions(tmp_path):
    path = tmp_path / 'new' / 'predictions.jsonl'
    scored(mixed(), out=str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [each['frame_id'] for each in lines] == [f'f{k}' for k in range(12)]
    assert lines[1] == dict(
        frame_id='f1',
        prediction=dict.fromkeys(SLOTS, '') | dict(intent='something else'),
        offensive_bin=None,
        format_ok=False,
        text=CANARY,
    )
    assert [each['offensive_bin'] for each in lines[2:4]] == [1, 1]
    assert [each.name for each in path.parent.iterdir()] == ['predictions.jsonl']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(labels='label_al'), "labels 'label_al' is not known.*did you mean 'label_all'"),
        (dict(slots=['intend']), "slot 'intend' is not known.*did you mean 'intent'"),
        (dict(binarizer='ours'), "binarizer 'ours' is not known"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(UserError, match=message):
        FrameMetric(**options)


def test_wrong_data(tmp_path):
    out = tmp_path / 'out.jsonl'
    with pytest.raises(UserError, match=r"labels='label_all': none of 12.*\['label_majority'\]"):
        scored(mixed(), labels='label_all', out=str(out))
    assert not out.exists()
    with pytest.raises(UserError, match="frame f0: predicted slot 'intend' is not known"):
        scored([sample(frame(0), dict(intend='x'))])
    with pytest.raises(UserError, match='frame id f0 is that of two different frames'):
        scored([sample(frame(0)), sample(frame(0, power='other'))])
    with pytest.raises(UserError, match='there are no frames'):
        scored([])


def test_repeated_frames_count_once():
    samples = mixed()
    assert scored(samples[:3] + samples) == scored(samples)


def test_no_text_is_logged(capsys):
    with captured_log() as log:
        evaluator = Evaluator([dict(type='mmkd.FrameMetric', by_group=True, min_group=2)])
        evaluator.process(mixed(), None)
        found = evaluator.evaluate(12)
        try:
            scored(mixed(), labels='label_all')
        except UserError as error:
            print(error)
    printed = capsys.readouterr()
    said = f'{log}{printed.out}{printed.err}{found}'
    assert 'label_all' in said and 'canary' not in said.lower() and 'something else' not in said


def on_rank(rank, folder):
    """Scores of blocks of frames on each of two ranks, of which the first is repeated on both."""
    import torch.distributed as dist

    samples = mixed()
    share = samples[:7] if rank == 0 else samples[:1] + samples[7:]
    evaluator = Evaluator([FrameMetric(by_group=True, min_group=2, out=f'{folder}/{rank}.jsonl')])
    evaluator.process(share, None)
    found = evaluator.evaluate(len(samples))
    dist.barrier()
    return found


def test_ranks_agree_with_one_process(tmp_path):
    first, second = run_gloo(on_rank, 2, str(tmp_path), timeout=600)
    assert first == second == pytest.approx(scored(mixed(), by_group=True, min_group=2))
    # of rank 0 alone, each frame once
    assert [each.name for each in tmp_path.iterdir()] == ['0.jsonl']
    lines = [json.loads(line) for line in (tmp_path / '0.jsonl').read_text().splitlines()]
    assert {each['frame_id'] for each in lines} == {f'f{k}' for k in range(12)} and len(lines) == 12
