"""The digits of scikit-learn: all of them, once; a fixed split; statistics of the training part."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mmdistill.core.errors import UserError
from mmkd.datasets.digits import DigitsDataset


def pixels(dataset):
    """All images of a data set as they are before the normalisation, one per row."""
    found = torch.stack([dataset[n]['inputs']['pixel_values'] for n in range(len(dataset))])
    return (found * dataset.std + dataset.mean).flatten(1)


def test_both_splits_are_all_digits_and_classes_keep_their_shares():
    train, test = DigitsDataset('train'), DigitsDataset('test')
    raw = load_digits()
    both = torch.cat([pixels(train), pixels(test)]).round().int().tolist()
    assert sorted(both) == sorted(raw.data.astype(int).tolist())
    counts, of_all = np.bincount(test.labels), np.bincount(raw.target)
    assert np.abs(counts - 0.3 * of_all).max() <= 0.5
    by_image = dict(zip(map(tuple, raw.data.astype(int).tolist()), raw.target, strict=True))
    assert [by_image[tuple(each)] for each in both] == [*train.labels, *test.labels]


def test_the_seed_chooses_the_split():
    assert torch.equal(DigitsDataset('test').images, DigitsDataset('test').images)
    one, other = (DigitsDataset('test', seed=seed).images for seed in (0, 1))
    assert one.shape == other.shape and not torch.equal(one, other)


def test_images_to_train_with_have_mean_0_and_deviation_1():
    train, test = DigitsDataset('train'), DigitsDataset('test')
    images = torch.stack([train[n]['inputs']['pixel_values'] for n in range(len(train))]).double()
    assert float(images.mean()) == pytest.approx(0, abs=1e-6)
    assert float(images.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert torch.equal(train.mean, test.mean) and torch.equal(train.std, test.std)


def test_shapes_and_what_networks_ask():
    image, flat = DigitsDataset('test')[3], DigitsDataset('test', flat=True)[3]
    assert image['inputs']['pixel_values'].shape == (1, 8, 8)
    assert torch.equal(flat['inputs']['numeric'], image['inputs']['pixel_values'].flatten())
    assert list(flat['inputs']) == ['numeric'] and flat['labels'] == image['labels']
    large = DigitsDataset('test', size=32)
    assert large[3]['inputs']['pixel_values'].shape == (1, 32, 32)
    about = large.metainfo
    assert about == dict(classes=tuple('0123456789'), numeric=1024) and not large.changes_samples


def test_wrong_splits_and_shares_say_so():
    with pytest.raises(UserError, match="train or test, got 'val'"):
        DigitsDataset('val')
    with pytest.raises(UserError, match='between 0 and 1, both excluded, got 1.0'):
        DigitsDataset('train', test_share=1.0)
