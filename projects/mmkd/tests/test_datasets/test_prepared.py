"""Images in memory: those of the data set inside, whitened or not, and what names them."""

import pickle

import pytest
import torch
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmkd.datasets.digits import DigitsDataset
from mmkd.datasets.images import MemoryImages
from mmkd.datasets.indexed import IndexedDataset
from mmkd.datasets.prepared import PreparedImages
from mmkd.datasets.subsets import SplitDataset, unchanged
from mmkd.datasets.zca import ZCA


class Samples(Dataset):
    """Pixels and labels that are given one by one."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, label = self.samples[index]
        return dict(inputs=dict(pixel_values=image), labels=label)


def coloured(count=30, seed=0, **options):
    """A data set of two classes."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 3, 4, 5), generator=draw, dtype=torch.uint8)
    labels = [n % 2 for n in range(count)]
    return MemoryImages(images, labels, ['a', 'b'], [100.0] * 3, [255.0] * 3, **options)


def stacked(dataset):
    """All images of a data set, sample by sample."""
    return torch.stack([dataset[n]['inputs']['pixel_values'] for n in range(len(dataset))])


@pytest.mark.parametrize('count', [30, 1003])
def test_without_whitening_samples_are_those_of_the_data_set(count):
    inside = coloured(count)
    data = PreparedImages(inside)
    assert len(data) == count and data.metainfo == dict(classes=('a', 'b'))
    assert torch.equal(data.images, stacked(inside)) and data.images.dtype == torch.float32
    assert data.labels.tolist() == inside.labels and data.labels.dtype == torch.int64
    for index in (0, count // 2, -1):
        sample = data[index]
        assert torch.equal(sample['inputs']['pixel_values'], stacked(inside)[index])
        assert sample['labels'] == inside.labels[index] and isinstance(sample['labels'], int)
        assert set(sample) == {'inputs', 'labels'} and set(sample['inputs']) == {'pixel_values'}
    assert data.whitening is None and data.view(data.images) is data.images
    assert not data.changes_samples and unchanged(data) is data


def test_built_from_configs_of_nested_data_sets():
    split = dict(
        type='mmkd.SplitDataset', dataset=dict(type='mmkd.DigitsDataset', split='train'), share=0.1
    )
    data = PreparedImages(dict(split, part='meta'))
    inside = SplitDataset(DigitsDataset('train'), 0.1, part='meta')
    assert torch.equal(data.images, stacked(inside))
    assert torch.equal(data.labels, inside.labels) and len(data.metainfo['classes']) == 10
    assert PreparedImages(IndexedDataset(inside)).digest == data.digest


def test_random_changes_are_left_out_and_no_random_number_is_drawn():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    data = PreparedImages(
        coloured(pad=2, flip=True), zca=dict(fit=coloured(60, seed=1, pad=1, flip=True))
    )
    assert torch.equal(torch.get_rng_state(), before)
    plain = PreparedImages(coloured(), zca=dict(fit=coloured(60, seed=1)))
    assert torch.equal(data.images, plain.images) and data.digest == plain.digest
    changing = Samples([(torch.zeros(1, 2, 2), 0)])
    changing.changes_samples = True
    for given in (dict(dataset=changing), dict(dataset=coloured(), zca=dict(fit=changing))):
        with pytest.raises(UserError, match='Samples changes its samples'):
            PreparedImages(**given)


def test_images_are_whitened_as_those_to_train_with():
    train, test = coloured(1200), coloured(30, seed=1)
    zca = ZCA.fit([stacked(train)], 0.2)
    for inside in (train, test):
        data = PreparedImages(inside, zca=dict(fit=train, eps=0.2))
        torch.testing.assert_close(data.images, zca.whiten(stacked(inside)), rtol=0, atol=1e-6)
        torch.testing.assert_close(data.view(data.images), stacked(inside), rtol=0, atol=1e-5)
        assert data.whitening.digest == zca.digest and data.images.dtype == torch.float32
        assert torch.equal(data[3]['inputs']['pixel_values'], data.images[3])
    assert not torch.allclose(data.images, stacked(test), atol=0.1)
    assert PreparedImages(test, zca=dict(fit=test)).whitening.eps == 0.1


def test_the_digest_names_images_labels_and_whitening():
    relabelled, changed = coloured(), coloured()
    relabelled.labels[3] = 1 - relabelled.labels[3]
    changed.images[4, 0, 0, 0] ^= 1
    fit = dict(fit=coloured(60, seed=1))
    digests = [
        PreparedImages(inside, zca).digest
        for inside, zca in (
            (coloured(), None),
            (relabelled, None),
            (changed, None),
            (coloured(29), None),
            (coloured(), fit),
            (relabelled, fit),
            (coloured(), dict(fit, eps=0.2)),
            (coloured(), dict(fit=coloured(60, seed=2))),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert PreparedImages(coloured()).digest == digests[0]
    assert PreparedImages(coloured(), dict(fit, eps=0.1)).digest == digests[4]


def test_a_whitening_is_kept_in_a_file(tmp_path):
    path = str(tmp_path / 'zca.npz')
    one, again = (
        PreparedImages(coloured(), zca=dict(fit=coloured(60, seed=1), cache=path)) for _ in range(2)
    )
    assert torch.equal(one.images, again.images) and one.digest == again.digest
    assert ZCA.load(path).digest == one.whitening.digest
    other = PreparedImages(coloured(), zca=dict(fit=coloured(60, seed=2), cache=path))
    assert ZCA.load(path).digest == other.whitening.digest != one.whitening.digest


def test_another_process_gets_the_same():
    data = PreparedImages(coloured(), zca=dict(fit=coloured(60, seed=1)))
    found = pickle.loads(pickle.dumps(data))
    assert torch.equal(found.images, data.images) and found.digest == data.digest
    assert torch.equal(found.view(found.images), data.view(data.images))


@pytest.mark.parametrize('where', [1, 1000])
def test_images_of_two_sizes_are_refused(where):
    samples = [(torch.zeros(1, 2, 2), 0)] * where + [(torch.zeros(1, 2, 3), 0)]
    with pytest.raises(UserError, match=r'Samples are \(1, 2, 2\) and \(1, 2, 3\): bring them'):
        PreparedImages(Samples(samples))


def test_what_is_wrong_is_named():
    with pytest.raises(UserError, match='Samples has no images'):
        PreparedImages(Samples([]))
    for image in (torch.zeros(2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8), [0.0]):
        with pytest.raises(UserError, match=r'Samples have no float images pixel_values'):
            PreparedImages(Samples([(image, 0)]))
    with pytest.raises(UserError, match=r"pixel_values \(C, H, W\), only \['numeric'\]"):
        PreparedImages(DigitsDataset('test', flat=True))
    for label in (0.5, None):
        with pytest.raises(UserError, match=f'Samples are not one class per sample, got {label}'):
            PreparedImages(Samples([(torch.zeros(1, 2, 2), label)]))
    with pytest.raises(UserError, match=r"zca: unknown key 'epsilon' \(did you mean 'eps'"):
        PreparedImages(coloured(), zca=dict(fit=coloured(), epsilon=1))
    with pytest.raises(UserError, match='zca needs fit'):
        PreparedImages(coloured(), zca=dict(eps=0.1))
    with pytest.raises(UserError, match=r'fitted on images \(1, 8, 8\), got \(3, 4, 5\)'):
        PreparedImages(coloured(), zca=dict(fit=DigitsDataset('test')))
