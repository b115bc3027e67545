"""Logged numbers about pseudo labels find their chart; runs without them are refused."""

import json

import numpy as np
import pytest

from mmdistill.core.errors import UserError


@pytest.fixture
def tool(tools):
    """The module."""
    from analysis_tools import pseudo_quality

    return pseudo_quality


def _run(path, lines, stamp='20260101_000000'):
    """Writes the logs of a run: by iteration, what else than the loss is in the line."""
    folder = path / stamp / 'vis_data'
    folder.mkdir(parents=True)
    text = [json.dumps({'iter': step, 'loss': 1.0, 'lr': 0.1, **line}) for step, line in lines]
    (folder / 'scalars.json').write_text('\n'.join(text) + '\n')
    return path


def _line(value):
    """What a training with a dual filter and a store logs."""
    return {
        'pseudo/precision': value,
        'pseudo/recall': value / 2,
        'pseudo/kept_ratio': value / 4,
        'pseudo/count_Car': 3.0,
        'pseudo/count_traffic_cone': 1.0,
        'pseudo/threshold_view_iou_traffic_cone': 0.25,
        'pseudo/threshold_high_view_iou_traffic_cone': 0.75,
        'store/boxes': 12,
        'store/Car': 11,
    }


def test_keys_find_measure_and_class(tool):
    classes = ['Car', 'cone', 'traffic_cone']
    expected = {
        'pseudo/precision': ('precision', tool.ALL),
        'pseudo/precision_Car': ('precision', 'Car'),
        'pseudo/kept_ratio': ('kept_ratio', tool.ALL),
        'pseudo/kept_ratio_traffic_cone': ('kept_ratio', 'traffic_cone'),
        'pseudo/count_traffic_cone': ('count', 'traffic_cone'),
        'pseudo/threshold_cls_Car': ('threshold/cls/low', 'Car'),
        'pseudo/threshold_high_view_iou_traffic_cone': ('threshold/view_iou/high', 'traffic_cone'),
        'pseudo/threshold_cls_stranger': ('threshold/cls/low', 'stranger'),
        'threshold/view_iou/traffic_cone/high': ('threshold/view_iou/high', 'traffic_cone'),
        'threshold/cls/Car/low': ('threshold/cls/low', 'Car'),
        'store/boxes': ('store', tool.ALL),
        'store/traffic_cone': ('store', 'traffic_cone'),
        'loss': None,
        'lr': None,
        'pseudo/else': None,
        'threshold/cls/Car/middle': None,
    }
    assert {key: tool.place_of(key, classes) for key in expected} == expected


def test_mean_of_the_latest_logs(tool):
    values = np.random.default_rng(0).random(9).tolist()
    assert tool.smoothed(values, 1) == pytest.approx(values)
    found = tool.smoothed(values, 3)
    assert found[:2] == pytest.approx([values[0], (values[0] + values[1]) / 2])
    assert found[2:] == pytest.approx(np.convolve(values, np.ones(3) / 3, 'valid'))


def test_a_resumed_run_is_one_curve(tool, tmp_path):
    run = _run(tmp_path / 'run', [(10, _line(0.1)), (20, _line(0.2)), (30, _line(0.3))])
    _run(run, [(30, _line(0.5)), (40, {}), (50, _line(0.6))], '20260102_000000')
    series = tool.read_run(run)
    assert series['precision'] == {tool.ALL: ([10, 20, 30, 50], [0.1, 0.2, 0.5, 0.6])}
    assert set(series['count']) == {'Car', 'traffic_cone'}
    assert series['threshold/view_iou/high'] == {'traffic_cone': ([10, 20, 30, 50], [0.75] * 4)}


def test_curves_are_named_as_far_as_there_are_several(tool):
    one = {'precision': {tool.ALL: ([1, 2], [0.0, 1.0])}, 'store': {'Car': ([1, 2], [2, 4])}}
    low = {'threshold/cls/low': {'Car': ([1], [0.3])}}
    drawn = tool.charts({'a': {**one, **low}}, 2)
    assert drawn['precision'] == {tool.ALL: ([1, 2], [0.0, 0.5])}
    assert drawn['stored boxes'] == {'Car': ([1, 2], [2, 4])}, 'a count of objects is not smoothed'
    assert list(drawn) == ['precision', 'threshold, cls', 'stored boxes']
    high = {'threshold/cls/high': {'Car': ([1], [0.9])}}
    several = tool.charts({'a': {**one, **low, **high}, 'b': one}, 1)
    assert set(several['precision']) == {'a', 'b'}
    assert set(several['stored boxes']) == {'a, Car', 'b, Car'}
    assert {'low threshold, cls', 'high threshold, cls'} < set(several)


def test_picture_and_numbers(tool, tmp_path, capsys):
    first = _run(tmp_path / 'hssda' / 'seed_0', [(10, _line(0.1)), (20, _line(0.3))])
    second = _run(tmp_path / 'peer' / 'seed_0', [(10, _line(0.2))])
    tool.main([str(first), str(second), f'--out={tmp_path}/new', '--smooth=2'])
    said = capsys.readouterr().out.split()
    assert [each.rpartition('.')[2] for each in said] == ['png', 'json']
    assert (tmp_path / 'new' / 'pseudo_quality.png').read_bytes()[:4] == b'\x89PNG'
    numbers = json.loads((tmp_path / 'new' / 'pseudo_quality.json').read_text())
    assert set(numbers['runs']) == {'hssda/seed_0', 'peer/seed_0'} and numbers['smooth'] == 2
    found = numbers['runs']['hssda/seed_0']['precision'][tool.ALL]
    assert found == {'iter': [10, 20], 'value': [0.1, 0.3]}, 'numbers are as logged'


def test_runs_are_called_by_their_folders(tool, tmp_path):
    paths = [tmp_path / each for each in ('a/x/s', 'a/y/s', 'b/x/s')]
    assert tool.labels(paths) == ['a/x/s', 'a/y/s', 'b/x/s']
    assert tool.labels([tmp_path / 'a' / 'one', tmp_path / 'a' / 'two']) == ['one', 'two']
    with pytest.raises(UserError, match='given twice'):
        tool.labels([tmp_path / 'a', tmp_path / 'b' / '..' / 'a'])


def test_errors_say_what_there_is(tool, tmp_path, capsys):
    with pytest.raises(UserError, match='nowhere: no training logs'):
        tool.main([str(tmp_path / 'nowhere'), f'--out={tmp_path}/new'])
    run = _run(tmp_path / 'plain', [(10, {'grad_norm': 2.0})])
    with pytest.raises(UserError, match='plain: .*only grad_norm, iter, loss, lr: .*QualityHook'):
        tool.main([str(run), f'--out={tmp_path}/new'])
    with pytest.raises(SystemExit):
        tool.main([str(run), f'--out={tmp_path}/new', '--smooth=0'])
    assert '--smooth must be at least 1' in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
