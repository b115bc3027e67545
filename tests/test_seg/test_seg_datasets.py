"""Datasets that mmseg lacks: their files and classes, and what they say when files are missing."""

import shutil

import numpy as np
import pytest
from label_cases import write_pair
from mmseg.datasets import CityscapesDataset

from mmdistill.core.errors import UserError
from mmdistill.registry import DATASETS
from mmdistill.seg.datasets import CamVidDataset, GTA5Dataset, SYNTHIADataset
from mmdistill.testing.data import real_data

pytestmark = pytest.mark.usefixtures('mmseg_scope')
LABEL = np.zeros((6, 8), np.uint8)
SOURCES = [GTA5Dataset, SYNTHIADataset]


@pytest.fixture
def pairs(tmp_path):
    """Two images with labels of train ids beside labels of other ids."""
    for name in ('00002', '00001'):
        write_pair(tmp_path, name, LABEL, '_labelTrainIds.png')
        write_pair(tmp_path, name, LABEL)
    return tmp_path


def build(kind, root, **options):
    """A dataset of the folder."""
    prefix = dict(img_path='images', seg_map_path='labels')
    return kind(data_root=str(root), serialize_data=False, **{'data_prefix': prefix, **options})


@pytest.mark.parametrize('kind', SOURCES)
def test_images_meet_their_converted_labels(pairs, kind):
    data = build(kind, pairs)
    assert len(data) == 2
    for index, name in enumerate(('00001', '00002')):
        info = data.get_data_info(index)
        assert info['img_path'] == f'{pairs}/images/{name}.png'
        assert info['seg_map_path'] == f'{pairs}/labels/{name}_labelTrainIds.png'


@pytest.mark.parametrize('kind', SOURCES)
def test_sources_have_the_classes_of_the_target(pairs, kind):
    target = CityscapesDataset(data_prefix=dict(img_path=str(pairs)), lazy_init=True)
    assert build(kind, pairs).metainfo == target.metainfo


@pytest.mark.parametrize('kind', SOURCES)
def test_sources_and_target_can_be_concatenated(pairs, kind):
    prefix = dict(img_path='images')
    shared = dict(data_root=str(pairs), data_prefix=prefix, serialize_data=False)
    target = dict(type='CityscapesDataset', img_suffix='.png', **shared)
    source = dict(type=f'mmdistill.{kind.__name__}', **shared)
    assert len(DATASETS.build(dict(type='ConcatDataset', datasets=[source, target]))) == 4


def test_camvid_has_eleven_classes_and_as_many_colours():
    info = CamVidDataset.METAINFO
    assert len(info['classes']) == len(set(info['classes'])) == len(info['palette']) == 11
    assert len({tuple(colour) for colour in info['palette']}) == 11
    assert info['classes'][0] == 'sky' and info['classes'][10] == 'bicyclist'


@pytest.mark.parametrize(
    ('kind', 'converter'), [(GTA5Dataset, 'gta.py'), (SYNTHIADataset, 'synthia.py')]
)
def test_labels_that_were_not_converted_name_the_converter(pairs, kind, converter):
    for path in (pairs / 'labels').glob('*_labelTrainIds.png'):
        path.unlink()
    with pytest.raises(UserError, match=f'00001_labelTrainIds.png: no such file; .*{converter}'):
        build(kind, pairs)


def test_missing_folders_lists_and_images_are_named(pairs):
    with pytest.raises(UserError, match='nowhere: no such folder'):
        build(GTA5Dataset, pairs, data_prefix=dict(img_path='nowhere', seg_map_path='labels'))
    with pytest.raises(UserError, match='train.txt: no such list'):
        build(GTA5Dataset, pairs, ann_file='train.txt')
    with pytest.raises(UserError, match=r"images with suffix '.jpg': no sample"):
        build(GTA5Dataset, pairs, img_suffix='.jpg')
    (pairs / 'train.txt').write_text('00003\n')
    with pytest.raises(UserError, match='00003.png: no such file; check data_prefix'):
        build(GTA5Dataset, pairs, ann_file='train.txt')
    (pairs / 'train.txt').write_text('')
    with pytest.raises(UserError, match='train.txt: no sample found'):
        build(GTA5Dataset, pairs, ann_file='train.txt')


def test_a_list_of_ids_chooses_samples(pairs):
    (pairs / 'train.txt').write_text('00002\n')
    data = build(GTA5Dataset, pairs, ann_file='train.txt')
    assert [data.get_data_info(i)['img_path'][-9:] for i in range(len(data))] == ['00002.png']


def test_without_a_label_folder_samples_have_no_label(pairs):
    shutil.rmtree(pairs / 'labels')
    data = build(GTA5Dataset, pairs, data_prefix=dict(img_path='images'))
    assert len(data) == 2 and 'seg_map_path' not in data.get_data_info(0)


@pytest.mark.parametrize('kind', [*SOURCES, CamVidDataset])
def test_unknown_options_are_refused(pairs, kind):
    with pytest.raises(TypeError, match='data_prefixes'):
        build(kind, pairs, data_prefixes={})


def test_the_real_camvid():
    root = real_data('camvid')
    if root is None:
        pytest.skip('set MMDISTILL_DATA to a folder that holds camvid/')
    load = [dict(type='mmdistill.CheckedSegImage')]
    load += [dict(type='mmdistill.CheckedSegAnnotations', num_classes=11)]
    sizes, seen = {}, set()
    for split in ('train', 'val'):
        prefix = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
        data = build(CamVidDataset, root, data_prefix=prefix, pipeline=load)
        sizes[split] = len(data)
        for index in range(0, len(data), 40):
            seen |= set(np.unique(data[index]['gt_seg_map']))
    assert sizes == dict(train=367, val=101) and seen == {*range(11), 255}
