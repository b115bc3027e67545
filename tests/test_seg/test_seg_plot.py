"""Pictures of segmentation show labels in their colours, and refuse what does not fit."""

import cv2
import numpy as np
import pytest

from mmdistill.core.errors import UserError
from mmdistill.seg.seg_plot import (
    AGREEMENT,
    OUTSIDE,
    Palette,
    SegPanel,
    agreement,
    hues,
    save_segs,
)

PALETTE = Palette(('road', 'sky', 'car'), ((128, 64, 128), (70, 130, 180), (0, 0, 142)))


def grey(value=128, size=(32, 48)):
    """A picture of one colour."""
    return np.full((*size, 3), value, np.uint8)


def written(path, *args, **more):
    """RGB pixels of a picture."""
    save_segs(path, *args, **more)
    return cv2.imread(str(path))[..., ::-1]


def share(picture, colour):
    """Share of pixels that have exactly a colour."""
    return (picture == np.array(colour)).all(-1).mean()


def test_every_label_has_the_colour_of_its_class():
    labels = np.random.default_rng(0).choice([0, 1, 2, 3, 200, 255, -1], (9, 7))
    painted = PALETTE.paint(labels)
    for y, x in np.ndindex(labels.shape):
        label = labels[y, x]
        colour = PALETTE.colours[label] if 0 <= label < 3 else OUTSIDE
        assert tuple(painted[y, x]) == colour
    for kind in (np.uint8, np.int64):
        assert np.array_equal(PALETTE.paint(np.array([[255, 1]], kind))[0, 0], OUTSIDE)


def test_the_legend_names_what_occurs():
    assert PALETTE.present(np.array([[2, 0], [0, 255]])) == [0, 2, 3]
    assert [PALETTE.entry(i)[0] for i in (0, 2, 3)] == ['road', 'car', 'ignored']
    assert PALETTE.present(np.array([[1]])) == [1]


def test_palettes_of_data_sets():
    given = Palette.of(dict(classes=['a', 'b'], palette=[[1, 2, 3], [4, 5, 6]]))
    assert given.names == ('a', 'b') and given.colours == ((1, 2, 3), (4, 5, 6))
    made = Palette.of(dict(classes=tuple('abcdefghijklmnopqrs'), palette=[]))
    assert len(set(made.colours)) == 19 and made.colours == tuple(hues(19))
    with pytest.raises(UserError, match='no classes'):
        Palette.of({})
    with pytest.raises(UserError, match='got 1 for 2 classes'):
        Palette.of(dict(classes=('a', 'b'), palette=[[1, 2, 3]]))


def test_colours_differ_enough_to_be_told_apart():
    colours = np.array(hues(19), float)
    gaps = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(19)
    assert gaps.min() > 40


def test_agreement_is_right_wrong_or_unknown():
    labels, truth = np.array([[0, 1, 2, 2]]), np.array([[0, 2, 255, 2]])
    assert agreement(labels, truth, 3).tolist() == [[0, 1, 2, 0]]


def test_labels_numbers_and_hidden_parts_are_seen(tmp_path):
    labels = np.zeros((32, 48), np.int64)
    labels[:, 24:] = 2
    picture = written(tmp_path / 'new' / 'a.png', [[SegPanel('x', labels=labels)]], PALETTE)
    assert min(share(picture, PALETTE.colours[i]) for i in (0, 2)) > 0.1
    assert share(picture, PALETTE.colours[1]) == 0  # the legend leaves it out
    left = labels == 0
    panel = SegPanel('x', labels=labels, shown=left)
    assert share(written(tmp_path / 'b.png', [[panel]], PALETTE), PALETTE.colours[2]) == 0
    values = np.linspace(0, 1.5, 32 * 48).reshape(32, 48)
    low = written(tmp_path / 'c.png', [[SegPanel('x', values=0 * values)]], PALETTE)
    rising = written(tmp_path / 'd.png', [[SegPanel('x', values=values)]], PALETTE)
    dark = (68, 1, 84)  # the first colour of viridis
    assert share(low, dark) > 0.2 > share(rising, dark)


def test_an_outline_is_drawn_at_the_border_alone(tmp_path):
    inside = np.zeros((32, 48), bool)
    inside[8:24, 12:36] = True
    plain = written(tmp_path / 'a.png', [[SegPanel('x', grey())]], PALETTE)
    lined = written(tmp_path / 'b.png', [[SegPanel('x', grey(), outline=inside)]], PALETTE)
    assert 0.005 < (plain != lined).any(-1).mean() < 0.2
    for mask in (np.ones_like(inside), np.zeros_like(inside)):
        same = written(tmp_path / 'c.png', [[SegPanel('x', grey(), outline=mask)]], PALETTE)
        assert np.array_equal(plain, same)


def test_rows_stand_below_each_other(tmp_path):
    panel, other = SegPanel('x', grey()), SegPanel('y', grey(), note='below')
    agreed = SegPanel('z', labels=np.zeros((32, 48), int), palette=AGREEMENT)
    one = written(tmp_path / 'one.png', [[panel, panel]], PALETTE)
    two = written(tmp_path / 'two.png', [[panel, other], [agreed]], PALETTE, title='t')
    assert two.shape[1] == one.shape[1] and two.shape[0] > 1.8 * one.shape[0]
    assert share(two, AGREEMENT.colours[0]) > 0.05 and share(two, AGREEMENT.colours[1]) == 0


def test_clear_errors(tmp_path):
    with pytest.raises(UserError, match='nothing to draw'):
        save_segs(tmp_path / 'x.png', [[]], PALETTE)
    with pytest.raises(UserError, match="'x': give one of image, labels and values"):
        SegPanel('x')
    with pytest.raises(UserError, match='give one of'):
        SegPanel('x', grey(), labels=np.zeros((32, 48)))
    with pytest.raises(UserError, match=r"'x': outline is \(3, 3\), not \(32, 48\)"):
        SegPanel('x', grey(), outline=np.zeros((3, 3), bool))
