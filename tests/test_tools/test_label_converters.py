"""Converters of GTA5 and SYNTHIA and the statistics tool: ids, files, interruptions, errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import mmdistill.seg  # noqa: F401  (the tools load parts of it without its hosts)
from mmdistill.seg.class_stats import read_class_stats

TOOLS = Path(__file__).resolve().parents[2] / 'tools' / 'dataset_converters'
# published id of each of the 19 classes
GTA_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
SYNTHIA_IDS = [3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11]


@pytest.fixture
def converter(monkeypatch):
    """Runs a converter in this process; returns exit code and output."""
    monkeypatch.syspath_prepend(str(TOOLS))

    def run(name, capsys, *args):
        module = __import__(name)
        code = module.main([*map(str, args), '--processes', '1'])
        out = capsys.readouterr()
        lines = [line for line in out.err.splitlines() if not line.startswith('labels: ')]
        assert len(lines) == (code != 0)
        return code, out.out, ''.join(lines)

    yield run
    for name in ('class_stats', 'gta', 'synthia', 'label_files', 'generated_folder'):
        sys.modules.pop(name, None)


def write_gta(root: Path, number: int, ids: np.ndarray) -> None:
    """Writes a palette label as the game's package has it."""
    path = root / 'labels' / f'{number:05d}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids.astype(np.uint8)).convert('P')
    picture.putpalette(list(np.random.default_rng(0).integers(0, 255, 768)))
    picture.putdata(ids.reshape(-1).tolist())
    picture.save(path)


def write_synthia(root: Path, number: int, ids: np.ndarray) -> None:
    """Writes a label of 16 bits with classes in the first and instances in the second channel."""
    path = root / 'GT' / 'LABELS' / f'{number:07d}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    instances = np.arange(ids.size).reshape(ids.shape)
    rgb = np.stack([ids, instances, np.zeros_like(ids)], -1).astype(np.uint16)
    assert cv2.imwrite(str(path), rgb[..., ::-1])


PACKAGES = [
    ('gta', write_gta, 'labels', GTA_IDS, 35),
    ('synthia', write_synthia, 'GT/LABELS', SYNTHIA_IDS, 23),
]
each_package = pytest.mark.parametrize(('name', 'write', 'folder', 'ids', 'known'), PACKAGES)


def all_ids(known):
    """A label that holds every known id, id i on i + 1 pixels."""
    return np.repeat(np.arange(known), np.arange(known) + 1)[None]


@each_package
def test_every_id_becomes_its_train_id(
    name, write, folder, ids, known, converter, capsys, tmp_path
):
    label = all_ids(known)
    write(tmp_path, 1, label)
    code, out, _ = converter(name, capsys, tmp_path)
    assert code == 0 and '1 labels' in out
    (path,) = (tmp_path / folder).glob('*_labelTrainIds.png')
    with Image.open(path) as picture:
        assert picture.mode == 'L'
        converted = np.array(picture)
    wanted = {number: train for train, number in enumerate(ids)}
    brute = [wanted.get(int(i), 255) for i in label.reshape(-1)]
    assert converted.reshape(-1).tolist() == brute
    stats = read_class_stats(tmp_path / 'class_stats.json')
    assert stats.files == (path.name,) and stats.pixels[0].tolist() == [i + 1 for i in ids]


@each_package
def test_a_second_run_ignores_what_the_first_made(
    name, write, folder, ids, known, converter, capsys, tmp_path
):
    for number in (1, 2):
        write(tmp_path, number, np.full((4, 5), ids[number]))
    converter(name, capsys, tmp_path)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / folder).iterdir()}
    before = (tmp_path / 'class_stats.json').read_bytes()
    assert converter(name, capsys, tmp_path)[0] == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / folder).iterdir()} == files
    assert (tmp_path / 'class_stats.json').read_bytes() == before and len(files) == 4


@each_package
def test_a_broken_output_is_made_again(
    name, write, folder, ids, known, converter, capsys, tmp_path
):
    write(tmp_path, 1, np.full((4, 5), ids[3]))
    converter(name, capsys, tmp_path)
    (path,) = (tmp_path / folder).glob('*_labelTrainIds.png')
    good = path.read_bytes()
    path.write_bytes(good[:30])
    assert converter(name, capsys, tmp_path)[0] == 0
    assert path.read_bytes() == good


@each_package
def test_overwrite_converts_again(name, write, folder, ids, known, converter, capsys, tmp_path):
    write(tmp_path, 1, np.full((4, 5), ids[3]))
    converter(name, capsys, tmp_path)
    write(tmp_path, 1, np.full((4, 5), ids[8]))
    converter(name, capsys, tmp_path)
    assert read_class_stats(tmp_path / 'class_stats.json').pixels[0, 3] == 20
    converter(name, capsys, tmp_path, '--overwrite')
    assert read_class_stats(tmp_path / 'class_stats.json').pixels[0, 8] == 20


@each_package
def test_wrong_packages_are_one_line_and_leave_nothing(
    name, write, folder, ids, known, converter, capsys, tmp_path
):
    def refused(said):
        code, _, err = converter(name, capsys, tmp_path)
        assert code == 2 and said in err
        assert not (tmp_path / 'class_stats.json').exists()
        assert not [p for p in tmp_path.rglob('*') if '.part-' in p.name]

    refused(f'{tmp_path / folder}: no such folder')
    (tmp_path / folder).mkdir(parents=True)
    refused('holds no label')
    path = tmp_path / folder / '0000001.png'
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    refused('3 channels')
    write(tmp_path, 1, np.full((4, 5), known))
    if name == 'gta':
        path.unlink()
    refused(f'holds the id {known}')
    write(tmp_path, 1, np.zeros((4, 5), int))
    refused('no label holds a class')
    for label in (tmp_path / folder).glob('*.png'):
        label.write_bytes(b'no picture')
    (tmp_path / folder).joinpath('00001_labelTrainIds.png').unlink(missing_ok=True)
    refused('cannot be read')


def test_statistics_of_any_folder(converter, capsys, tmp_path):
    labels = {'a/1.png': [[0, 0, 1]], 'b/1.png': [[255, 2, 2]], 'b/skip.jpg': [[9]]}
    for name, label in labels.items():
        (tmp_path / 'labels' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(label, np.uint8)).save(tmp_path / 'labels' / name)
    out = tmp_path / 'new' / 'stats.json'
    args = (tmp_path / 'labels', '--num-classes', 4, '--out', out)
    code, said, _ = converter('class_stats', capsys, *args)
    assert code == 0 and '2 labels' in said and 'class   2: 40.00000%' in said
    stats = read_class_stats(out)
    assert stats.files == ('a/1.png', 'b/1.png')
    assert stats.pixels.tolist() == [[2, 1, 0, 0], [0, 0, 2, 0]]


@pytest.mark.parametrize(
    ('label', 'options', 'said'),
    [
        ([[0, 7]], (), '1.png: label id 7 is none of the 4 classes'),
        ([[255]], (), 'no label holds a class'),
        ([[[0, 0, 0]]], (), '1.png: this label has 3 channels'),
        ([[0]], ('--suffix', '_x.png'), "no label with the suffix '_x.png'"),
        ([[0]], ('--num-classes', 0), '--num-classes'),
    ],
)
def test_statistics_refuse_what_they_cannot_count(
    converter, capsys, tmp_path, label, options, said
):
    Image.fromarray(np.array(label, np.uint8)).save(tmp_path / '1.png')
    args = (tmp_path, '--out', tmp_path / 's.json', '--num-classes', 4, *options)
    code, _, err = converter('class_stats', capsys, *args)
    assert code == 2 and said in err
    assert [p.name for p in tmp_path.iterdir()] == ['1.png']


def environment():
    """Variables that let the tools find the package."""
    path = os.pathsep.join([str(TOOLS.parents[1]), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path}


def test_processes_count_the_same_and_load_no_host(tmp_path):
    for number in range(1, 20):
        write_gta(tmp_path / 'data', number, np.full((8, 9), GTA_IDS[number % 19]))
    code = (
        f'import sys; sys.path.insert(0, {str(TOOLS)!r}); import gta\n'
        f'assert gta.main([{str(tmp_path / "data")!r}, "--processes", "2"]) == 0\n'
        'print(sorted({"torch", "mmseg", "mmengine"} & sys.modules.keys()))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '[]' and '19/19' in done.stderr
    stats = read_class_stats(tmp_path / 'data' / 'class_stats.json')
    assert stats.pixels.argmax(1).tolist() == [n % 19 for n in range(1, 20)]


def test_an_interrupted_run_leaves_whole_files_and_goes_on(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / 'labels'
    folder.mkdir()
    for number in range(1, 61):
        label = rng.choice(GTA_IDS, (100, 200)).astype(np.uint8)
        Image.fromarray(label).save(folder / f'{number:05d}.png')
    command = [sys.executable, str(TOOLS / 'gta.py'), str(tmp_path), '--processes', '2']
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
        # jobs in the background of a shell ignore the signal, and so would this one
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob('labels/*TrainIds.png')) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and 'Traceback' not in err and 'run it again' in err
    made = list(tmp_path.glob('labels/*TrainIds.png'))
    assert 0 < len(made) < 60 and not (tmp_path / 'class_stats.json').exists()
    assert not list(tmp_path.glob('.labels.part-*'))
    for path in made:
        with Image.open(path) as picture:
            assert np.array(picture).shape == (100, 200)
    assert subprocess.run(command, env=environment(), capture_output=True).returncode == 0
    content = json.loads((tmp_path / 'class_stats.json').read_text())
    assert content['num_files'] == 60 and sum(content['pixels']) == 60 * 100 * 200
