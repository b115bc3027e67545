"""Checked loading: equal to mmseg's for good files, one line that names the file for bad ones."""

import io
import time

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmdistill.core.errors import UserError
from mmdistill.seg.labels import label_table
from mmdistill.seg.loading import CheckedSegAnnotations, CheckedSegImage


@pytest.fixture
def files(tmp_path):
    """Paths of an image and a label of 6 x 8 pixels."""
    rng = np.random.default_rng(0)
    paths = dict(img_path=tmp_path / 'a.png', seg_map_path=tmp_path / 'a_label.png')
    Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).save(paths['img_path'])
    label = rng.integers(0, 19, (6, 8)).astype(np.uint8)
    label[0, :3] = 255
    Image.fromarray(label).save(paths['seg_map_path'])
    return {key: str(path) for key, path in paths.items()}


def info(files, **more):
    """What a dataset of mmseg tells about a sample."""
    return dict(files, label_map=None, reduce_zero_label=False, seg_fields=[], **more)


@pytest.mark.parametrize('float32', [False, True])
def test_a_good_image_is_loaded_as_by_mmcv(files, float32):
    ours = CheckedSegImage(to_float32=float32)(info(files))
    theirs = LoadImageFromFile(to_float32=float32)(info(files))
    assert ours.keys() == theirs.keys()
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    assert ours['img'].dtype == theirs['img'].dtype
    assert ours['ori_shape'] == theirs['ori_shape'] == (6, 8) == ours['img_shape']


@pytest.mark.parametrize('reduce', [False, True])
@pytest.mark.parametrize(
    'label_map', [None, {0: 255, 1: 0}, {i: (i + 1) % 19 for i in range(19)}, {3: 4, 4: 3, 18: 255}]
)
def test_a_good_label_is_loaded_as_by_mmseg(files, label_map, reduce):
    def sample():
        return {**info(files), 'label_map': label_map, 'reduce_zero_label': reduce}

    ours = CheckedSegAnnotations(19)(CheckedSegImage()(sample()))
    theirs = LoadAnnotations()(LoadImageFromFile()(sample()))
    np.testing.assert_array_equal(ours['gt_seg_map'], theirs['gt_seg_map'])
    assert ours['gt_seg_map'].dtype == np.uint8 and ours['seg_fields'] == theirs['seg_fields']


def test_the_table_follows_the_map_at_once_and_not_in_turn():
    assert label_table()[[0, 7, 255]].tolist() == [0, 7, 255]
    assert label_table({1: 2, 2: 1})[[0, 1, 2, 255]].tolist() == [0, 2, 1, 255]
    assert label_table(None, True)[[0, 1, 254, 255]].tolist() == [255, 0, 253, 255]
    assert label_table({0: 5}, True)[[0, 1, 2]].tolist() == [255, 5, 1]


def damage(path, how):
    """Breaks a file."""
    data = path.read_bytes()
    if how == 'missing':
        path.unlink()
    else:
        changed = dict(
            empty=b'', cut=data[: len(data) - 20], text=b'no picture at all',
            head=data[:8] + b'\0' * (len(data) - 24) + data[-16:],
        )  # fmt: skip
        path.write_bytes(changed[how])


@pytest.mark.parametrize('how', ['missing', 'empty', 'cut', 'text', 'head'])
@pytest.mark.parametrize('key', ['img_path', 'seg_map_path'])
def test_a_broken_file_is_named(files, tmp_path, key, how):
    damage(tmp_path / ('a.png' if key == 'img_path' else 'a_label.png'), how)
    with pytest.raises(UserError) as caught:
        CheckedSegAnnotations(19)(CheckedSegImage()(info(files)))
    said = str(caught.value)
    assert said.startswith(files[key]) and '\n' not in said
    assert ('image' if key == 'img_path' else 'label') in said
    assert (
        dict(missing='missing', empty='empty', cut='cut off').get(how, 'cannot be decoded') in said
    )


def put(files, label):
    """Replaces the label."""
    Image.fromarray(label).save(files['seg_map_path'])
    return CheckedSegAnnotations(19)(CheckedSegImage()(info(files)))


@pytest.mark.parametrize('wrong', [19, 20, 100, 254])
def test_an_id_that_is_no_class_is_named(files, wrong):
    label = np.full((6, 8), 18, np.uint8)
    label[5, 7] = 255
    assert put(files, label)['gt_seg_map'][5, 7] == 255
    label[3, 3] = wrong
    with pytest.raises(UserError, match=f'label id {wrong} is none of the 19 classes'):
        put(files, label)


def test_wide_ids_do_not_wrap_around(files):
    label = np.full((6, 8), 3, np.uint16)
    assert put(files, label)['gt_seg_map'].tolist() == label.tolist()
    label[0, 0] = 256 + 4  # a plain cast to 8 bits makes it class 4
    with pytest.raises(UserError, match='label id 260 is none'):
        put(files, label)


def test_the_id_is_checked_after_the_map(files):
    Image.fromarray(np.full((6, 8), 7, np.uint8)).save(files['seg_map_path'])
    sample = {**info(files), 'label_map': {7: 1}}
    assert (CheckedSegAnnotations(2)(sample)['gt_seg_map'] == 1).all()
    with pytest.raises(UserError, match='label id 7'):
        CheckedSegAnnotations(2)(info(files))


def test_colours_and_other_sizes_are_refused(files):
    with pytest.raises(UserError, match='a_label.png: this label has 3 channels'):
        put(files, np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(UserError, match=r'a_label.png: this label is 8x5 .*a.png 8x6'):
        put(files, np.zeros((5, 8), np.uint8))


def test_the_size_is_that_of_the_file_and_not_of_a_resized_image(files):
    sample = CheckedSegImage()(info(files))
    sample.update(img=np.zeros((3, 4, 3), np.uint8), img_shape=(3, 4))
    assert CheckedSegAnnotations(19)(sample)['gt_seg_map'].shape == (6, 8)


def test_palette_files_give_their_indices(files):
    label = np.arange(48, dtype=np.uint8).reshape(6, 8) % 19
    picture = Image.fromarray(label).convert('P')
    picture.putpalette(list(np.random.default_rng(1).integers(0, 255, 768)))
    picture.putdata(label.reshape(-1).tolist())
    picture.save(files['seg_map_path'])
    loaded = CheckedSegAnnotations(19)(info(files))['gt_seg_map']
    np.testing.assert_array_equal(loaded, label)


def test_a_sample_without_label_says_so(files):
    sample = info(files)
    del sample['seg_map_path']
    with pytest.raises(UserError, match=r'a\.png: this sample has no label'):
        CheckedSegAnnotations(19)(sample)


@pytest.mark.parametrize('count', [0, 255, -1])
def test_the_number_of_classes_is_checked(count):
    with pytest.raises(UserError, match='num_classes'):
        CheckedSegAnnotations(count)


def test_the_check_costs_little_beside_the_decoding():
    label = (
        np.random.default_rng(0).integers(0, 19, (64, 128), np.uint8).repeat(16, 0).repeat(16, 1)
    )
    data = io.BytesIO()
    Image.fromarray(label).save(data, 'PNG')

    def seconds(work):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    decoding = seconds(lambda: np.array(Image.open(io.BytesIO(data.getvalue()))))
    assert seconds(lambda: (label + np.uint8(1)).max()) < 0.2 * decoding
