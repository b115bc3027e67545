"""Splits of a segmentation data set: published lists and nested draws."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.seg.seg_split import (
    SplitError,
    draw_order,
    image_id,
    labeled_count,
    list_images,
    read_ids,
    write_split,
)

CITY = 'aachen/aachen_000000_000019'


@pytest.mark.parametrize(
    ('line', 'wanted'),
    [
        ('2007_000032', '2007_000032'),
        ('JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png', '2007_000032'),
        ('/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png', '2007_000032'),
        ('VOC2012/JPEGImages/2007_000032.jpg\tVOC2012/Seg/2007_000032.png', '2007_000032'),
        (f'leftImg8bit/train/{CITY}_leftImg8bit.png', CITY),
        (f'leftImg8bit/train/{CITY}_leftImg8bit.png gtFine/train/{CITY}_labelTrainIds.png', CITY),
        (f'{CITY}_leftImg8bit.png', CITY),
        (CITY, CITY),
        ('images/train/0001TP_006690.jpg\n', '0001TP_006690'),
        ('images/00001.png', '00001'),
        ('./my.image.v2.jpeg', 'my.image.v2'),
        ('my image.png\tmy label.png', 'my image'),
    ],
)
def test_lines_of_published_lists_become_ids(line, wanted):
    assert image_id(line) == wanted
    assert image_id(wanted) == wanted or ' ' in wanted


def test_a_list_keeps_its_order_and_needs_no_last_line_feed(tmp_path):
    (tmp_path / 'a.txt').write_text('b\n\na\r\nc')
    assert read_ids(tmp_path / 'a.txt') == ['b', 'a', 'c']


@pytest.mark.parametrize(
    ('data', 'said'),
    [
        (None, 'no such list'),
        (b'', 'lists no image'),
        (b'\n \n', 'lists no image'),
        (b'\xff\xfe\x00', 'no text file'),
        (b'a\nb\na.png\n', 'line 3: a stands already in line 1'),
    ],
)
def test_broken_lists_are_named(tmp_path, data, said):
    if data is not None:
        (tmp_path / 'list.txt').write_bytes(data)
    with pytest.raises(SplitError, match=rf'list.txt.*{said}'):
        read_ids(tmp_path / 'list.txt')


def test_images_are_listed_below_their_folder(tmp_path):
    for name in ('b/2_x.png', 'a/1_x.png', 'a/1_y.png', 'c.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path, '_x.png') == ['a/1', 'b/2']
    with pytest.raises(SplitError, match="no image with the suffix '.jpg'"):
        list_images(tmp_path, '.jpg')
    with pytest.raises(SplitError, match='nowhere: no such folder'):
        list_images(tmp_path / 'nowhere', '.png')


@pytest.mark.parametrize(
    ('total', 'counts'),
    [
        (10582, {'1/16': 662, '1/8': 1323, '1/4': 2646, '1/2': 5291}),
        (2975, {'1/16': 186, '1/8': 372, '1/4': 744, '1/2': 1488}),
        (100, {'92': 92, '0.5': 50, '0.01': 1, '1/1': 100, '100': 100}),
    ],
)
def test_shares_are_rounded_as_in_the_published_splits(total, counts):
    assert {size: labeled_count(size, total) for size in counts} == counts


@pytest.mark.parametrize('size', ['0', '-3', '101', '3/2', 'half', '1/0', ''])
def test_sizes_that_make_no_split_are_refused(size):
    with pytest.raises(SplitError, match='size'):
        labeled_count(size, 100)


NAMES = st.lists(st.text('abc012_/', min_size=1, max_size=8), unique=True, min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(NAMES, st.integers(0, 5), st.randoms())
def test_the_draw_is_a_function_of_the_set_and_the_seed(ids, seed, random):
    order = draw_order(ids, seed)
    assert sorted(order) == sorted(ids)
    shuffled = list(ids)
    random.shuffle(shuffled)
    assert draw_order(shuffled, seed) == order
    # who leaves does not disturb the others
    assert draw_order(ids[1:], seed) == [i for i in order if i != ids[0]]


def test_seeds_draw_differently_and_evenly():
    ids = [f'{n:04d}' for n in range(1000)]
    heads = [set(draw_order(ids, seed)[:100]) for seed in range(40)]
    assert len({frozenset(head) for head in heads}) == 40
    times = [sum(name in head for head in heads) for name in ids]
    # Binomial(40, 0.1): mean 4, variance 3.6
    assert sum(times) == 4000
    assert sum((t - 4) ** 2 for t in times) / 1000 == pytest.approx(3.6, rel=0.2)


def test_the_draw_is_fixed_for_all_versions():
    ids = [f'{n:02d}' for n in range(6)]
    brute = sorted(ids, key=lambda i: hashlib.sha1(b'0 ' + i.encode()).hexdigest())
    assert draw_order(ids, 0) == brute


def test_both_lists_are_written_and_make_up_all(tmp_path):
    write_split(tmp_path / 'x', ['c', 'a'], ['d', 'c', 'b', 'a'])
    assert (tmp_path / 'x' / 'labeled.txt').read_text() == 'a\nc\n'
    assert (tmp_path / 'x' / 'unlabeled.txt').read_text() == 'b\nd\n'


def test_an_unknown_labelled_image_is_named_and_nothing_written(tmp_path):
    with pytest.raises(SplitError, match='1 of 2 labelled images, for instance z, are not'):
        write_split(tmp_path / 'x', ['z', 'a'], ['a', 'b'])
    assert not (tmp_path / 'x').exists()
