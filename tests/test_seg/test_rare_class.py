"""Rare class sampling: the formula, the drawn frequencies, and errors about the statistics."""

# ruff: noqa: NPY002  (the data set draws from numpy's global generator)
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_cases import write_scenes
from mmengine.dataset import pseudo_collate
from torch.utils.data import BatchSampler, DataLoader

from mmdistill.core.errors import UserError
from mmdistill.core.positioned_data import positioned_loader
from mmdistill.core.rng import seed_cpu
from mmdistill.core.samplers import RatioSampler
from mmdistill.registry import DATASETS
from mmdistill.seg import rare_class
from mmdistill.seg.class_stats import StatsError
from mmdistill.seg.rare_class import class_frequencies, class_probabilities, mapped_pixels

pytestmark = pytest.mark.usefixtures('mmseg_scope')
SCENES = {
    '00000': {0: 1500, 8: 200},
    '00001': {0: 1200, 13: 400, 18: 60},
    '00002': {0: 1000, 8: 300, 13: 100},
    '00003': {8: 900, 18: 101},
}
LOAD = [
    dict(type='mmdistill.CheckedSegImage'),
    dict(type='mmdistill.CheckedSegAnnotations', num_classes=19),
]


@pytest.fixture
def config(tmp_path):
    """Four images of which class 18 is seen on two, with enough pixels on one."""
    return write_scenes(tmp_path, SCENES)


def rare(config, **options):
    """The wrapped dataset; more than 100 pixels are enough and T is large."""
    known = dict(
        class_stats=f'{config["data_root"]}/class_stats.json', min_pixels=100, temperature=0.5
    )
    return DATASETS.build(
        dict(type='mmdistill.RareClassDataset', dataset=config, **{**known, **options})
    )


def test_frequencies_are_shares_of_labelled_pixels():
    got = class_frequencies(np.array([[1, 0, 3], [5, 0, 1]]))
    assert got.tolist() == [0.6, 0.0, 0.4]
    big = np.full((3000, 2), 2**31)
    assert class_frequencies(big).tolist() == [0.5, 0.5]


def test_probabilities_by_hand():
    got = class_probabilities(np.array([0.6, 0.0, 0.4]), temperature=0.1)
    # (1 - f) / T is 4 and 6; the class that does not occur is not drawn
    assert got[0] == pytest.approx(1 / (1 + math.exp(2))) and got[1] == 0
    assert got[2] == pytest.approx(1 / (1 + math.exp(-2)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.001, 1), min_size=2, max_size=19),
    st.sampled_from([1e-4, 0.01, 0.1, 1.0, 100.0]),
)
def test_rarer_classes_are_never_less_probable(weights, temperature):
    frequencies = np.array(weights) / sum(weights)
    got = class_probabilities(frequencies, temperature)
    assert got.sum() == pytest.approx(1) and (got >= 0).all() and np.isfinite(got).all()
    assert (np.diff(got[np.argsort(frequencies)]) <= 1e-12).all()


def test_temperature_goes_from_the_rarest_class_to_all_alike():
    frequencies = np.array([0.7, 0.2, 0.1])
    np.testing.assert_allclose(class_probabilities(frequencies, 1e-3), [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(class_probabilities(frequencies, 1e4), [1 / 3] * 3, atol=1e-4)


def test_drawn_classes_follow_the_formula(config):
    data = rare(config)
    total = {c: sum(s.get(c, 0) for s in SCENES.values()) for c in (0, 8, 13, 18)}
    every = sum(total.values())
    weight = {c: math.exp((1 - n / every) / 0.5) for c, n in total.items()}
    expected = np.array([weight.get(c, 0) / sum(weight.values()) for c in range(19)])
    np.random.seed(0)
    draws = np.array([data.draw() for _ in range(100_000)])
    seen = np.bincount(draws[:, 0], minlength=19) / len(draws)
    assert np.abs(seen - expected).max() < 4 * math.sqrt(0.25 / 1e5)
    # images of a class are drawn alike, and only those with more than 100 pixels of it
    for c, images in ((0, [0, 1, 2]), (8, [0, 2, 3]), (13, [1]), (18, [3])):
        of_class = draws[draws[:, 0] == c, 1]
        share = np.bincount(of_class, minlength=4) / len(of_class)
        wanted = np.isin(np.arange(4), images) / len(images)
        assert np.abs(share - wanted).max() < 4 * math.sqrt(0.25 / len(of_class)), c


def test_the_sample_is_the_drawn_image_and_knows_its_class(config):
    data = rare({**config, 'pipeline': LOAD})
    for seed in range(20):
        np.random.seed(seed)
        wanted, place = data.draw()
        np.random.seed(seed)
        sample = data[seed % 4]
        assert sample['rare_class'] == wanted and sample['rare_class_pixels'] == 100
        assert sample['img_path'].endswith(f'{place:05d}.png')
        assert (sample['gt_seg_map'] == wanted).sum() > 100


def test_the_index_has_no_meaning_but_ends(config):
    data = rare({**config, 'pipeline': LOAD})
    samples = []
    for index in (0, 3, -1):
        seed_cpu(9)
        samples.append(data[index])
    assert len({s['img_path'] for s in samples}) == len({s['rare_class'] for s in samples}) == 1
    assert len(list(data)) == len(data) == 4


def test_frequencies_are_those_of_the_datasets_own_files(config, tmp_path):
    (tmp_path / 'some.txt').write_text('00003\n00001\n')
    data = rare({**config, 'ann_file': 'some.txt'})
    pixels = np.array([[0, 1200], [900, 0], [0, 400], [101, 60]]).T
    expected = class_probabilities(class_frequencies(pixels), 0.5)
    np.testing.assert_allclose(data.probabilities[[0, 8, 13, 18]], expected)


def test_classes_that_cannot_be_drawn_are_named_and_left_out(config, monkeypatch):
    lines = []
    monkeypatch.setattr(rare_class, 'print_log', lambda text, **_: lines.append(text))
    data = rare(config, min_pixels=101)
    assert data.probabilities[18] == 0 and data.probabilities.sum() == pytest.approx(1)
    assert len(lines) == 1 and lines[0].endswith('pixels of it: bicycle')
    with pytest.raises(UserError, match='min_pixels=1500 .* the most is 1500; lower min_pixels'):
        rare(config, min_pixels=1500)


def test_custom_classes_are_counted_under_their_new_ids(config):
    data = rare({**config, 'metainfo': dict(classes=('car', 'road', 'bicycle'))})
    assert (data.probabilities > 0).tolist() == [True, True, True]
    assert [each.tolist() for each in data.images_of] == [[1], [0, 1, 2], [3]]


def test_pixels_follow_the_map_of_the_loading():
    pixels = np.array([[1, 2, 4], [8, 0, 16]])
    assert mapped_pixels(pixels, 3).tolist() == pixels.tolist()
    assert mapped_pixels(pixels, 2, reduce_zero_label=True).tolist() == [[2, 4], [0, 16]]
    assert mapped_pixels(pixels, 1, {0: 0, 1: 255, 2: 0}).tolist() == [[5], [24]]
    with pytest.raises(StatsError, match='pixels of class 2, the dataset has 2'):
        mapped_pixels(pixels, 2)


def test_the_same_position_gives_the_same_sample_in_any_loader(config, tmp_path):
    pipeline = [
        *LOAD,
        dict(type='mmdistill.RareClassCrop', crop_size=(16, 16)),
        dict(type='PackSegInputs'),
    ]

    def batches(workers, skip):
        both = DATASETS.build(dict(type='ConcatDataset', datasets=[
            dict(type='mmdistill.RareClassDataset', dataset={**config, 'pipeline': pipeline},
                 class_stats=f'{tmp_path}/class_stats.json', min_pixels=100, temperature=0.5),
            {**config, 'pipeline': [LOAD[0], pipeline[2], pipeline[3]]},
        ]))  # fmt: skip
        sampler = BatchSampler(RatioSampler(both, 2, (1, 1)), 2, True)
        loader = DataLoader(
            both, batch_sampler=sampler, num_workers=workers, collate_fn=pseudo_collate
        )
        loader = positioned_loader(loader, seed=3, infinite=True)
        loader.batch_sampler.seek(skip)
        stream = iter(loader)
        return [next(stream) for _ in range(6 - skip)]

    straight, resumed, parallel = batches(0, 0), batches(0, 3), batches(2, 0)
    for a, b in [*zip(straight[3:], resumed, strict=True), *zip(straight, parallel, strict=True)]:
        for one, other in zip(a['inputs'], b['inputs'], strict=True):
            assert one.tolist() == other.tolist()
    paths = {batch['data_samples'][0].img_path for batch in straight}
    assert len(paths) > 1


def test_it_is_lazy_when_asked_and_ready_once(config):
    data = rare(config, class_stats='nowhere.json', lazy_init=True)
    with pytest.raises(StatsError, match='nowhere.json: no such statistics file'):
        data.full_init()
    data = rare(config, lazy_init=True)
    before = data.metainfo['classes']
    np.random.seed(0)
    assert data.draw()[0] in (0, 8, 13, 18) and data.metainfo['classes'] == before
    assert data.get_data_info(2)['img_path'].endswith('00002.png')


def test_statistics_of_other_data_are_refused(config, tmp_path):
    foreign = {f'{n:05d}.png': {'0': 5000} for n in range(1, 9)}
    (tmp_path / 'other.json').write_text(json.dumps(foreign))
    with pytest.raises(StatsError) as caught:
        rare(config, class_stats=f'{tmp_path}/other.json')
    said = str(caught.value)
    assert '1 of 4 label files' in said and 'labels/00000.png' in said and 'class_stats.py' in said
    many = {f'{n:05d}.png': {'30': 5000} for n in range(9)}
    (tmp_path / 'many.json').write_text(json.dumps(many))
    with pytest.raises(
        StatsError, match=r'many.json: .* class 30, the dataset has 19; .* other data'
    ):
        rare(config, class_stats=f'{tmp_path}/many.json')


@pytest.mark.parametrize('text', ['', '[]'])
def test_empty_statistics_are_refused(config, tmp_path, text):
    (tmp_path / 'empty.json').write_text(text)
    with pytest.raises(StatsError, match=r'empty.json: .*class_stats.py'):
        rare(config, class_stats=f'{tmp_path}/empty.json')


def test_a_dataset_without_labels_is_refused(config):
    with pytest.raises(UserError, match='need a dataset with labels'):
        rare({**config, 'data_prefix': dict(img_path='images')})


@pytest.mark.parametrize('options', [dict(temperature=0), dict(min_pixels=-1)])
def test_numbers_out_of_range_are_refused(config, options):
    with pytest.raises(UserError, match='temperature'):
        rare(config, **options)


def test_a_pipeline_without_result_names_the_image(config):
    data = rare({**config, 'pipeline': [lambda results: None]})
    with pytest.raises(UserError, match=r'\.png: the pipeline returned nothing'):
        data[0]
