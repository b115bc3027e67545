"""tools/train.py on the smoke config with data that cannot be used: one line, or a counted skip."""

import importlib.util
import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from data_cases import read_annotations, write_annotations
from mmengine.logging import MessageHub

from mmdistill.core.errors import run_tool

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ('train_dataloader.dataset.labeled.dataset', 'train_dataloader.dataset.unlabeled',
           'val_dataloader.dataset', 'test_dataloader.dataset')  # fmt: skip


@pytest.fixture
def people(drawn, tmp_path):
    """Drawn people that may be changed."""
    return Path(shutil.copytree(drawn, tmp_path / 'people'))


def train(monkeypatch, capsys, people, **options):
    """Trains as a user does; its exit status and what it wrote."""
    spec = importlib.util.spec_from_file_location('tool_train', ROOT / 'tools/train.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    file = f'{people}/annotations/person_keypoints_val.json'
    given = {f'{source}.data_root': str(people) for source in SOURCES}
    given.update({f'{kind}_evaluator.ann_file': file for kind in ('val', 'test')}, **options)
    words = [str(ROOT / 'configs/trs/trs_people_smoke.py'), '--work-dir', str(people / 'run')]
    words += ['--cfg-options', *(f'{key}={value}' for key, value in given.items())]
    monkeypatch.setattr(sys, 'argv', ['train', *words])
    monkeypatch.setenv('LOCAL_RANK', '0')
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    MessageHub._instance_dict.clear()
    status = 0
    try:
        run_tool(tool.main)
    except SystemExit as end:
        status = end.code
    log = ''.join(path.read_text() for path in (people / 'run').glob('*/*.log'))
    return status, capsys.readouterr().err, log


def error_of(err):
    """The one line that a user sees."""
    (line,) = [each for each in err.splitlines() if each.startswith('error: ')]
    assert 'Traceback' not in err
    return line


def changed(people, number, **values):
    """Changes an annotation."""
    content = read_annotations(people)
    known = [each for each in content['annotations'] if each['num_keypoints']]
    known[number].update(values)
    write_annotations(people, content)
    return known[number]


def test_a_missing_labelled_image_is_named(monkeypatch, capsys, people):
    content = read_annotations(people)
    first = next(each for each in content['annotations'] if each['num_keypoints'])
    name = next(i['file_name'] for i in content['images'] if i['id'] == first['image_id'])
    (people / 'images' / 'train' / name).unlink()
    status, err, _ = train(monkeypatch, capsys, people)
    line = error_of(err)
    assert status == 2 and name in line and 'is missing: check data_root' in line


def test_a_joint_far_outside_is_named(monkeypatch, capsys, people):
    content = read_annotations(people)
    first = next(each for each in content['annotations'] if each['num_keypoints'])
    joints = [9000.0, 9000.0, 2, *first['keypoints'][3:]]
    each = changed(people, 0, keypoints=joints)
    status, err, _ = train(monkeypatch, capsys, people)
    line = error_of(err)
    assert status == 2 and f'annotation {each["id"]}: joint 0 lies at [9000.0, 9000.0]' in line


def test_another_number_of_joints_is_named(monkeypatch, capsys, people):
    each = changed(people, 1, keypoints=[1, 1, 2] * 16)
    status, err, _ = train(monkeypatch, capsys, people)
    line = error_of(err)
    assert status == 2 and f'annotation {each["id"]} has 48 keypoint numbers, not 3 x 17' in line


def test_nobody_unlabelled_is_said(monkeypatch, capsys, people):
    option = {'+train_dataloader.dataset.unlabeled.min_size': 5000}
    status, err, _ = train(monkeypatch, capsys, people, **option)
    assert status == 2 and 'leaves nobody unlabelled: it holds' in error_of(err)


def test_a_box_without_area_is_counted_and_left_out(monkeypatch, capsys, people):
    each = changed(people, 0, bbox=[5.0, 5.0, 0.0, 40.0])
    status, err, log = train(monkeypatch, capsys, people)
    assert status == 0, err
    assert 'labelled boxes without area are' in log and 'boxes without area are' in err + log
    record = json.loads((people / 'run' / 'labeled_instances.json').read_text())
    assert each['id'] not in record['ids'] and len(record['ids']) == 6
    assert (people / 'run' / 'iter_8.pth').is_file()
