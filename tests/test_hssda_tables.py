"""The tables of configs/hssda/README.md say what the configs do, official numbers among it."""

import re
from pathlib import Path

import pytest
import yaml
from hssda_facts import (
    FOLDER,
    NAMES,
    ROOT,
    SEMI,
    config,
    data_facts,
    detector_of,
    innermost,
    method_facts,
    schedule_facts,
    table,
    transforms,
)


@pytest.fixture(scope='module', autouse=True)
def operators():
    """PV-RCNN brings operators along; other tests find the hosts' own."""
    yield
    from mmdistill.det3d.cpu_ops import remove_cpu_ops

    remove_cpu_ops()


@pytest.mark.parametrize(
    'title, names, facts',
    [
        ('Detectors and data', NAMES, data_facts),
        ('Schedules', NAMES, schedule_facts),
        ('Method', SEMI, method_facts),
    ],
    ids=['data', 'schedule', 'method'],
)
def test_a_table_lists_every_config_and_says_what_it_does(title, names, facts):
    written = table(title)
    rows = [[f'`{name}`', *facts(name).values()] for name in names if name not in written]
    lacking = '\n'.join(f'| {" | ".join(row)} |' for row in rows)
    assert not rows, f'{FOLDER}/README.md, {title}, lacks\n{lacking}'
    assert sorted(written) == names
    assert {name: facts(name) for name in names} == written


def test_augmentation_of_supervised_runs_is_the_students_view():
    """Turns, scales and flips are those of the run that goes on from them."""
    seen = 0
    for name in NAMES:
        follower = name.replace('burn-in', 'hssda').replace('supervised', 'hssda')
        follower = follower.replace('1xb8', '6xb10')
        if name in SEMI or follower not in NAMES:
            continue
        found, view = transforms(config(name)), config(follower).model.student_view
        assert tuple(found['GlobalRotScaleTrans'].rot_range) == tuple(view.rotation), name
        assert tuple(found['GlobalRotScaleTrans'].scale_ratio_range) == tuple(view.scale), name
        flips = found['RandomFlip3D']
        assert flips.flip_ratio_bev_horizontal == view.flip_prob, name
        both = flips.get('flip_ratio_bev_vertical', 0), view.get('vertical_flip_prob', 0)
        assert both[0] == both[1], name
        seen += 1
    assert seen > 15


def test_runs_begin_where_a_burn_in_of_the_same_data_ends():
    seen = 0
    for name in NAMES:
        cfg = config(name)
        if not cfg.load_from:
            continue
        first = config(Path(cfg.load_from).parent.name)
        length = first.train_cfg.get('max_epochs') or first.train_cfg.max_iters
        assert Path(cfg.load_from).stem in (f'epoch_{length}', f'iter_{length}')
        assert first.model == detector_of(cfg), name
        ours, theirs = (innermost(each.train_dataloader.dataset) for each in (cfg, first))
        assert ours.split_file == theirs.split_file and ours.dataset == theirs.dataset, name
        seen += 1
    assert seen > 15


# ------------------------------------------------------------------ numbers


def test_kitti_configs_have_the_official_numbers():
    found = [name for name in NAMES if '_kitti-3d' in name]
    assert len(found) >= 16
    for name in found:
        facts = {**data_facts(name), **schedule_facts(name)}
        assert facts['pasted objects'] == 'Car 15, Pedestrian 10, Cyclist 10'
        assert facts['least points'] == '5' and facts['length'] == '80 epochs'
        assert facts['lr, first and peak'] == '0.001, 0.01' and facts['rising part'] == '0.4'
        assert facts['beta 1'] == '0.95, 0.85' and facts['beta 2'] == '0.99'
        assert facts['weight decay'] == '0.01' and facts['clip'] == '10'
        assert facts['batch'] == ('8' if name.startswith('burn-in') else '10')
        if 'voxels' in facts['detector'] or facts['detector'] in ('SECOND', 'PV-RCNN'):
            assert facts['range, m'] == '0, -40, -3, 70.4, 40, 1'
            assert facts['voxel, m'] == '0.05, 0.05, 0.1'
        if name.startswith('burn-in'):
            assert facts['repeated'] == ('1' if facts['labels'] == 'all' else '5')
            continue
        assert facts['repeated'] == '1'
        method = method_facts(name)
        if not name.startswith('hssda'):
            assert method['EMA keep'] == '0.5 to 0.9996' and method['EMA ramp'] == '2000'
            assert method['student view'] == '0.5; 0.785; 0.95, 1.05'
            continue
        confidence = 'heatmap_peak' if 'centerpoint' in name else 'cls'
        objectness = 'objectness 0.95, ' if 'pv-rcnn' in name else ''
        thresholds = f'{confidence} 0.99, {objectness}view_iou 0.93'
        assert method == {
            'student view': '0.5; 0.785; 0.95, 1.05',
            'teacher view': '1; 0.785; 0.91, 1.12',
            'EMA keep': '0.5 to 0.9996',
            'EMA ramp': '2000',
            'first thresholds': thresholds,
            'rounds every': '5 epochs',
            'low': '0.1',
            'least points, match': '6, 0.5',
            'no soft': 'Pedestrian',
        }


def test_waymo_configs_have_the_official_numbers():
    found = [name for name in NAMES if '_waymo-3d' in name]
    assert len(found) == 2
    for name in found:
        facts = {**data_facts(name), **schedule_facts(name)}
        assert facts['range, m'] == '-75.2, -75.2, -2, 75.2, 75.2, 4'
        assert facts['voxel, m'] == '0.1, 0.1, 0.15'
        assert facts['pasted objects'] == 'Car 25, Pedestrian 20, Cyclist 20'
        assert facts['least points'] == '5' and facts['length'] == '30 epochs'
        assert facts['lr, first and peak'] == '0.001, 0.01'
        assert facts['weight decay'] == '0.001' and facts['clip'] == '10'
        layer = detector_of(config(name)).data_preprocessor.voxel_layer
        assert tuple(layer.max_voxels) == (150000, 150000)
        test_cfg = detector_of(config(name)).test_cfg.pts
        assert test_cfg.nms_thr == 0.7 and test_cfg.score_threshold == 0.1


def test_fractions_differ_in_their_labels_alone():
    for detector in ('second', 'pv-rcnn'):
        for run in ('burn-in_{}_1xb8', 'hssda_{}_6xb10'):
            stem = run.format(detector) + '-80e_kitti-3d-3class-semi-'
            first = config(f'{stem}0.01')
            for share in ('0.02', '0.2', '1.0'):
                other = config(f'{stem}{share}')
                assert other.model == first.model and other.optim_wrapper == first.optim_wrapper
                assert other.param_scheduler == first.param_scheduler
                assert other.custom_hooks == first.custom_hooks


# ------------------------------------------------------------------ results


def test_means_of_reported_results_are_means():
    """Guards against slips of the pen: each mean is that of its three classes."""
    text = (FOLDER / 'README.md').read_text(encoding='utf-8').split('\n## Reported results\n')[1]
    rows = re.findall(r'\| ([\d.]+) / ([\d.]+) / ([\d.]+) \| ([\d.]+) \|', text)
    assert len(rows) > 10
    for *classes, mean in rows:
        assert float(mean) == pytest.approx(sum(map(float, classes)) / 3, abs=0.055)


def test_the_metafile_names_every_method_config_and_no_number():
    meta = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
    listed = {each['Name']: each for each in meta['Models']}
    wanted = [n for n in NAMES if n.startswith('hssda') and not n.endswith('smoke')]
    assert sorted(listed) == wanted
    for name, each in listed.items():
        assert each['Config'] == f'configs/hssda/{name}.py'
        assert [result['Metrics'] for result in each['Results']] == [{}]
    assert (ROOT / meta['Collections'][0]['README']).is_file()
