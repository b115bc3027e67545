"""Splits of any info file: nested, by frame or sequence, refused where they do not belong."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from mmdistill.det3d.semi_split import SplitError
from mmdistill.det3d.split_file import (
    draw,
    frame_keys,
    make_split,
    read_split_file,
    sequences_of,
    split_id,
    write_split,
)

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_semi_split.py'


def nuscenes_infos(scenes=6, frames=10):
    """Two logs of scenes whose frames are half a second apart."""
    infos = []
    for scene in range(scenes):
        log = f'n{scene % 2:03d}-2018'
        for frame in range(frames):
            time = 1000.0 * scene + 0.5 * frame
            name = f'samples/LIDAR_TOP/{log}__LIDAR_TOP__{time:.0f}{frame}.pcd.bin'
            infos.append(
                dict(token=f't{scene}-{frame}', timestamp=time, lidar_points=dict(lidar_path=name))
            )
    return infos


def waymo_infos(scenes=5, frames=8):
    """Frames with Waymo's seven digits."""
    names = [f'1{scene:03d}{frame:03d}.bin' for scene in range(scenes) for frame in range(frames)]
    return [dict(lidar_points=dict(lidar_path=name)) for name in names]


def test_sequences_are_told_apart():
    found = sequences_of(nuscenes_infos())
    assert len(set(found)) == 6
    assert all(len(set(found[10 * n : 10 * n + 10])) == 1 for n in range(6))
    assert sequences_of(waymo_infos())[7:9] == ['1000', '1001']
    named = [dict(info, scene_token='a') for info in waymo_infos()]
    assert set(sequences_of(named)) == {'a'}
    with pytest.raises(SplitError, match='--sequences'):
        sequences_of([dict(lidar_points=dict(lidar_path='000001.bin'))])


@pytest.mark.parametrize('by', ['frame', 'sequence'])
@pytest.mark.parametrize('infos', [nuscenes_infos(), waymo_infos()], ids=['nuscenes', 'waymo'])
def test_smaller_shares_are_part_of_larger_ones(by, infos):
    shares = (0.05, 0.2, 0.5, 1.0)
    splits = [make_split(infos, 'a.pkl', share, by, number=2, seed=1) for share in shares]
    for small, large in zip(splits, splits[1:], strict=False):
        assert set(small.labeled) <= set(large.labeled)
    assert set(splits[-1].labeled) == set(frame_keys(infos))
    for share, split in zip(shares, splits, strict=True):
        assert len(split.labeled) >= int(share * len(infos))
        if by == 'frame':
            assert len(split.labeled) == int(share * len(infos))
    assert make_split(infos, 'a.pkl', 0.2, by, 3, 1).labeled != splits[1].labeled


def test_whole_sequences_are_drawn():
    infos = nuscenes_infos()
    unit = dict(zip(frame_keys(infos), sequences_of(infos), strict=True))
    split = make_split(infos, 'a.pkl', 0.25, 'sequence')
    labeled = {unit[key] for key in split.labeled}
    assert len(split.labeled) == 20 and len(labeled) == 2
    own = make_split(
        infos, 'a.pkl', 0.5, 'sequence', sequences={k: k[-1] for k in frame_keys(infos)}
    )
    assert len({key[-1] for key in own.labeled}) * 6 == len(own.labeled)
    with pytest.raises(SplitError, match='has no frame t0-1'):
        make_split(infos, 'a.pkl', 0.5, 'sequence', sequences={'t0-0': 'x'})


def test_every_unit_is_drawn_alike():
    counts = [0] * 10
    for seed in range(2000):
        for row in draw([str(row) for row in range(10)], 0.3, 1, seed):
            counts[row] += 1
    assert all(500 < count < 700 for count in counts)


@pytest.mark.parametrize('share', [0, -0.1, 1.1, 0.01])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(SplitError, match='cannot be drawn'):
        make_split(waymo_infos(), 'a.pkl', share)


def test_a_file_is_read_back_and_belongs_to_its_frames(tmp_path):
    infos, path = nuscenes_infos(), tmp_path / 'deep' / 'train_0.2_1.json'
    split = make_split(infos, 'a.pkl', 0.2)
    write_split(path, split)
    assert read_split_file(path, frame_keys(infos)) == split
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with pytest.raises(SplitError, match='was drawn from a.pkl with 60 frames, here are 59'):
        read_split_file(path, frame_keys(infos[1:]))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(content, labeled=content['labeled'][1:])))
    with pytest.raises(SplitError, match='changed by hand'):
        read_split_file(path)
    path.write_text('{"format": 1}')
    with pytest.raises(SplitError, match='no split of format 1'):
        read_split_file(path)
    path.write_text('{')
    with pytest.raises(SplitError, match='no JSON'):
        read_split_file(path)
    with pytest.raises(SplitError, match='make_semi_split'):
        read_split_file(tmp_path / 'none.json')


def test_the_id_tells_splits_apart_whatever_their_order():
    assert split_id('x', ['a', 'b']) == split_id('x', ['b', 'a'])
    assert len({split_id('x', ['a', 'b']), split_id('x', ['a']), split_id('y', ['a', 'b'])}) == 3


def test_repeated_frames_are_refused():
    infos = waymo_infos()
    with pytest.raises(SplitError, match='1000000 stands twice'):
        frame_keys([*infos, infos[0]])


def test_the_tool_draws_and_keeps(tmp_path):
    infos = tmp_path / 'nuscenes_infos_train.pkl'
    infos.write_bytes(pickle.dumps(dict(data_list=nuscenes_infos(), metainfo={})))
    command = [sys.executable, str(TOOL), '--infos', str(infos), '--by', 'sequence', '--numbers']
    command += ['2', '--sizes', '0.2', '0.5']
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count('drawn, 20 of 60 frames') == 2
    folder = tmp_path / 'ImageSets_semi'
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == [
        f'train_sequence_{size}_{number}.json' for size in ('0.2', '0.5') for number in (1, 2)
    ]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.stdout.count('kept') == 4
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    bad = subprocess.run(
        [*command[:2], '--root', 'x', '--sizes', '1', '--by', 'sequence'],
        capture_output=True,
        text=True,
    )
    assert bad.returncode == 2 and '--infos' in bad.stderr
