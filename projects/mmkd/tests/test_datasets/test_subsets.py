"""Parts, repeated and spoilt samples: what is drawn, from what, and that draws are repeated."""

import logging

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.datasets.images import MemoryImages
from mmkd.datasets.subsets import Corrupted, OverSampled, SplitDataset, meta_split, unchanged


class Numbers(Dataset):
    """Sample n has the input n."""

    def __init__(self, labels, classes=3, **inputs):
        self.labels, self.inputs = labels, inputs
        self.metainfo = dict(classes=tuple(map(str, range(classes))))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        inputs = dict(numeric=torch.full((4,), float(index)), categorical=torch.tensor([index]))
        return dict(inputs=self.inputs or inputs, labels=int(self.labels[index]))


def labels(seed=0, counts=(40, 7, 2)):
    """Classes in random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.fixture
def warnings():
    """Messages of mmengine's logger."""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('share', [0.01, 0.1, 0.5, 0.99])
def test_parts_are_disjoint_whole_sorted_and_have_all_classes(seed, share):
    given = labels(seed)
    train, meta = meta_split(given, share, seed)
    assert sorted([*train, *meta]) == list(range(49))
    assert (np.diff(train) > 0).all() and (np.diff(meta) > 0).all()
    for number, count in enumerate((40, 7, 2)):
        wanted = min(max(round(count * share), 1), count - 1)
        assert (given[meta] == number).sum() == wanted
    again = meta_split(torch.from_numpy(given), share, seed)
    assert np.array_equal(train, again[0]) and np.array_equal(meta, again[1])
    assert np.array_equal(meta, meta_split(given.tolist(), share, seed)[1])


def test_the_draw_is_even_within_a_class():
    given = labels(counts=(6, 3))
    often = np.zeros(9)
    for seed in range(600):
        often[meta_split(given, 1 / 3, seed)[1]] += 1
    assert np.abs(often / 600 - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 600)


def test_the_split_of_cifar100():
    given = np.repeat(np.arange(100), 500)
    train, meta = meta_split(given, 0.1, 0)
    assert len(train) == 45_000 and (np.bincount(given[meta]) == 50).all()


def test_the_only_sample_of_a_class_stays_to_train_with(warnings):
    train, meta = meta_split([0, 0, 5, 0, 9], 0.5, 0)
    assert {2, 4} <= set(train) and len(meta) == 2
    assert warnings == ['class 5 has one sample, and so have 1 others: nothing of it is set aside']
    with pytest.raises(UserError, match='no class of 2 samples has two'):
        meta_split([0, 1], 0.5, 0)


@pytest.mark.parametrize('share', [0, 1, -0.1, 1.5])
def test_shares_of_all_or_nothing_are_refused(share):
    for call in (
        lambda: meta_split([0, 0], share, 0),
        lambda: SplitDataset(Numbers([0, 0]), share),
        lambda: Corrupted(Numbers([0, 0]), share),
    ):
        with pytest.raises(UserError, match=f'both excluded, got {share}'):
            call()


def test_split_data_sets_give_the_samples_of_their_part():
    given = labels()
    indices = dict(zip(('train', 'meta'), meta_split(given, 0.2, 3), strict=True))
    for part, wanted in indices.items():
        data = SplitDataset(Numbers(given), 0.2, 3, part)
        assert [int(each['inputs']['categorical']) for each in data] == wanted.tolist()
        assert data.labels.tolist() == given[wanted].tolist() == [each['labels'] for each in data]
        assert data.metainfo == dict(classes=('0', '1', '2')) and not data.changes_samples
    with pytest.raises(UserError, match="train or meta, got 'val'"):
        SplitDataset(Numbers(given), 0.2, part='val')


def test_a_recorded_split_is_kept_to(tmp_path):
    path = tmp_path / 'deep' / 'split.json'
    data = Numbers(labels())
    train = SplitDataset(data, 0.2, 3, record=str(path))
    content = path.read_bytes()
    meta = SplitDataset(data, 0.2, 3, 'meta', record=str(path))
    assert path.read_bytes() == content and set(train.indices).isdisjoint(meta.indices)
    for other in (
        lambda: SplitDataset(data, 0.2, 4, record=str(path)),
        lambda: SplitDataset(data, 0.3, 3, record=str(path)),
        lambda: SplitDataset(Numbers(labels(1)), 0.2, 3, record=str(path)),
    ):
        with pytest.raises(UserError, match='split.json: another split was recorded'):
            other()
    path.write_text('no JSON')
    with pytest.raises(UserError, match='split.json: this is no record'):
        SplitDataset(data, 0.2, 3, record=str(path))


def test_over_sampling_makes_classes_equal_with_samples_of_their_own():
    given = labels()
    data = OverSampled(Numbers(given), seed=1)
    assert data.indices[:49].tolist() == list(range(49))
    assert np.bincount(data.labels).tolist() == [40, 40, 40]
    assert all(each['labels'] == given[int(each['inputs']['categorical'])] for each in data)
    assert [each['labels'] for each in data] == data.labels.tolist()
    again, other = (OverSampled(Numbers(given), seed=seed) for seed in (1, 2))
    assert np.array_equal(data.indices, again.indices)
    assert not np.array_equal(data.indices, other.indices)
    assert len(OverSampled(Numbers([0, 1, 0, 1]))) == 4


def test_outliers_are_noise_of_their_index_alone():
    plain = Numbers(labels())
    data = Corrupted(plain, 0.3, seed=5, noise=2.0)
    assert data.corrupted.sum() == round(0.3 * 49)
    order = np.random.default_rng(0).permutation(49)
    found = {int(n): data[int(n)]['inputs'] for n in order}
    for n in range(49):
        same = torch.equal(found[n]['numeric'], plain[n]['inputs']['numeric'])
        assert same != data.corrupted[n]
        assert torch.equal(data[n]['inputs']['numeric'], found[n]['numeric'])
        assert found[n]['numeric'].dtype == torch.float32
        assert torch.equal(found[n]['categorical'], torch.tensor([n]))
        assert data[n]['labels'] == plain[n]['labels']
    assert torch.equal(data[-1]['inputs']['numeric'], data[48]['inputs']['numeric'])
    # the noise does not depend on what was there
    other = Corrupted(Numbers(labels(), numeric=torch.zeros(4)), 0.3, seed=5, noise=2.0)
    wrong = np.flatnonzero(data.corrupted)
    assert np.array_equal(other.corrupted, data.corrupted)
    assert all(
        torch.equal(other[n]['inputs']['numeric'], data[n]['inputs']['numeric']) for n in wrong
    )


def test_the_noise_is_normal_and_differs_between_samples():
    large = Numbers([0] * 200, image=torch.zeros(3, 16, 16))
    data = Corrupted(large, 0.5, noise=0.5)
    noise = torch.stack([data[n]['inputs']['image'] for n in np.flatnonzero(data.corrupted)])
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 * 0.5 / count**0.5
    assert float(noise.var()) == pytest.approx(0.25, abs=5 * 0.25 * (2 / count) ** 0.5)
    alike = torch.corrcoef(noise.flatten(1)) - torch.eye(100)
    assert float(alike.abs().max()) < 6 / 768**0.5


def test_wrong_labels_are_other_classes_drawn_evenly():
    given = np.repeat([0, 1, 2], 1000)
    data = Corrupted(Numbers(given), 0.4, kind='labels', seed=2)
    found = data.labels.numpy()
    assert np.array_equal(found != given, data.corrupted) and data.corrupted.sum() == 1200
    shift = np.bincount((found - given)[data.corrupted] % 3, minlength=3)
    assert shift[0] == 0 and abs(shift[1] - 600) < 5 * np.sqrt(300)
    assert [data[n]['labels'] for n in range(50)] == found[:50].tolist()
    assert torch.equal(data[7]['inputs']['numeric'], torch.full((4,), 7.0))
    same = Corrupted(Numbers(given), 0.4, kind='inputs', seed=2)
    assert np.array_equal(same.corrupted, data.corrupted)


def test_corruptions_that_cannot_be_say_so():
    with pytest.raises(UserError, match="inputs or labels, got 'input'"):
        Corrupted(Numbers([0, 1]), 0.5, kind='input')
    with pytest.raises(UserError, match='share 0.1 of 3 samples is none'):
        Corrupted(Numbers([0, 1, 1]), 0.1)
    with pytest.raises(UserError, match='one class alone'):
        Corrupted(Numbers([0, 0], classes=1), 0.5, kind='labels')
    data = Corrupted(Numbers([0, 0], ids=torch.tensor([3])), 0.5)
    with pytest.raises(UserError, match=r"inputs \['ids'\] have no float tensor"):
        data[int(np.flatnonzero(data.corrupted)[0])]


def test_data_sets_without_classes_are_refused():
    for given, message in (
        (None, 'Numbers has no labels'),
        ([0.5, 1.0], 'labels of Numbers are not one class'),
    ):
        data = Numbers([0, 1])
        data.labels = given
        with pytest.raises(UserError, match=message):
            OverSampled(data)


def test_wrappers_pass_on_that_samples_change_and_stop_it():
    images = torch.arange(12 * 16, dtype=torch.uint8).view(12, 1, 4, 4)
    data = MemoryImages(images, [0, 1] * 6, ['a', 'b'], [0.0], [1.0], pad=2, flip=True)
    wrapped = Corrupted(OverSampled(SplitDataset(data, 0.5)), 0.5, kind='labels')
    assert wrapped.changes_samples and not wrapped.unchanged().changes_samples
    still = wrapped.unchanged()
    firsts, again = ([still[n]['inputs']['pixel_values'] for n in range(6)] for _ in range(2))
    indices = wrapped.dataset.indices
    for n, (one, other) in enumerate(zip(firsts, again, strict=True)):
        source = wrapped.dataset.dataset.indices[indices[n]]
        assert torch.equal(one, other) and torch.equal(one, images[source].float())
    assert wrapped.changes_samples and data.pad == 2
    plain = Numbers([0, 1])
    assert unchanged(plain) is plain
    plain.changes_samples = True
    with pytest.raises(UserError, match=r'Numbers changes its samples .* no unchanged'):
        unchanged(plain)
