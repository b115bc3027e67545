"""CIFAR as published: folders and archives, bytes and classes; pickles with code are refused."""

import os
import pickle
import struct
import tarfile
from io import BytesIO

import numpy as np
import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.datasets.cifar import SOURCES, CifarDataset, safe_unpickle

PLAIN = dict(mean=(0, 0, 0), std=(1, 1, 1))


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 writes its text, as the authors' files have it."""

    dispatch = dict(pickle._Pickler.dispatch)

    def _text(self, content):
        self.write(b'T' + struct.pack('<i', len(content)) + content)
        self.memoize(content)

    dispatch[bytes] = _text


def python2(content):
    """A pickle of Python 2 with the names that numpy had then."""
    file = BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n')


def batch(seed, key, classes, count=4):
    """Images whose first pixels are their numbers."""
    pixels = np.random.default_rng(seed).integers(256, size=(count, 3072)).astype(np.uint8)
    return {b'data': pixels, key: [(seed + n) % classes for n in range(count)]}


@pytest.fixture
def root(tmp_path):
    """Both data sets in small."""
    ten = tmp_path / 'cifar-10-batches-py'
    ten.mkdir()
    for n, name in enumerate([*(f'data_batch_{n}' for n in range(1, 6)), 'test_batch']):
        (ten / name).write_bytes(python2(batch(n, b'labels', 10)))
    names = [f'c{n}'.encode() for n in range(10)]
    (ten / 'batches.meta').write_bytes(python2({b'label_names': names}))
    hundred = tmp_path / 'cifar-100-python'
    hundred.mkdir()
    for n, name in enumerate(('train', 'test')):
        content = batch(n, b'fine_labels', 100) | {b'coarse_labels': [0] * 4}
        (hundred / name).write_bytes(python2(content))
    names = [f'f{n}'.encode() for n in range(100)]
    (hundred / 'meta').write_bytes(python2({b'fine_label_names': names}))
    return tmp_path


def test_batches_in_their_order_with_rows_of_red_green_and_blue(root):
    data = CifarDataset(str(root), 'train', 'cifar10', **PLAIN)
    wanted = np.concatenate([batch(n, b'labels', 10)[b'data'] for n in range(5)])
    assert len(data) == 20 and data.images.dtype == torch.uint8
    for index in (0, 7, 19):
        sample = data[index]
        image = wanted[index].reshape(3, 32, 32).astype(np.float32)
        assert np.array_equal(sample['inputs']['pixel_values'].numpy(), image)
        assert sample['labels'] == index // 4 + index % 4
    assert data.metainfo['classes'] == tuple(f'c{n}' for n in range(10))
    test = CifarDataset(str(root), 'test', 'cifar10', **PLAIN)
    assert test.labels == [5, 6, 7, 8]


def test_the_fine_classes_are_those_of_cifar100(root):
    data = CifarDataset(str(root), 'test')
    assert data.labels == [1, 2, 3, 4] and len(data.metainfo['classes']) == 100
    image = batch(1, b'fine_labels', 100)[b'data'][2].reshape(3, 32, 32).astype(np.float64)
    source = SOURCES['cifar100']
    mean, std = (np.array(each)[:, None, None] for each in (source.mean, source.std))
    found = data[2]['inputs']['pixel_values'].numpy()
    np.testing.assert_allclose(found, (image - mean) / std, atol=1e-5)


@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
def test_the_archive_gives_the_same_as_the_folder(root, tmp_path_factory, name):
    other = tmp_path_factory.mktemp('archive')
    source = SOURCES[name]
    with tarfile.open(other / source.archive, 'w:gz') as file:
        file.add(root / source.folder, source.folder)
    for split in ('train', 'test'):
        one, two = (CifarDataset(str(each), split, name) for each in (root, other))
        assert torch.equal(one.images, two.images) and one.labels == two.labels
        assert one.metainfo == two.metainfo
    content = (other / source.archive).read_bytes()
    (other / source.archive).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match='no whole .tar.gz'):
        CifarDataset(str(other), 'train', name)


def test_unchanged_shares_the_images_and_neither_moves_nor_flips(root):
    data = CifarDataset(str(root), 'train', 'cifar10', pad=4, flip=True)
    still = data.unchanged()
    assert data.changes_samples and not still.changes_samples
    assert still.images is data.images and (data.pad, data.flip) == (4, True)
    plain = CifarDataset(str(root), 'train', 'cifar10')
    assert torch.equal(still[3]['inputs']['pixel_values'], plain[3]['inputs']['pixel_values'])


class Attack:
    """Runs a command where it is unpickled."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused(tmp_path, protocol):
    trace = tmp_path / 'trace'
    content = pickle.dumps([Attack(os.system, f'touch {trace}')], protocol)
    with pytest.raises(UserError, match=r'evil: .*system is refused'):
        safe_unpickle(content, 'evil')
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists()
    for call in (eval, getattr, np.load, np.fromfile, tarfile.open):
        with pytest.raises(UserError, match='is refused'):
            safe_unpickle(pickle.dumps(Attack(call, '1'), protocol), 'evil')
    # protocol 4 has names with dots
    with pytest.raises(UserError, match='numpy.ndarray.tofile is refused'):
        safe_unpickle(b'\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.', 'evil')


def test_arrays_and_plain_values_are_read():
    content = {
        b'a': np.arange(6, dtype=np.int16).reshape(2, 3),
        b'b': [1, 2.5, None, b'x', (True,)],
    }
    for data in (python2(content), pickle.dumps(content, 3), pickle.dumps(content, 4)):
        found = safe_unpickle(data, 'good')
        assert np.array_equal(found[b'a'], content[b'a']) and found[b'a'].dtype == np.int16
        assert found[b'b'] == content[b'b']


def test_what_is_wrong_is_named(root):
    with pytest.raises(UserError, match=r"name 'cifar1000' .*did you mean 'cifar100'"):
        CifarDataset(str(root), 'train', 'cifar1000')
    with pytest.raises(UserError, match="train or test, got 'val'"):
        CifarDataset(str(root), 'val')
    with pytest.raises(UserError, match='neither cifar-100-python/ nor cifar-100-python.tar.gz'):
        CifarDataset(str(root / 'nowhere'), 'train')
    train = root / 'cifar-100-python' / 'train'
    for content, message in (
        ({b'labels': [0]}, "there is no 'data'"),
        ({b'data': np.zeros((1, 3072), np.uint8)}, "there is no 'fine_labels'"),
        (batch(0, b'fine_labels', 100) | {b'fine_labels': [0]}, 'not 1 rows of 3072 bytes'),
        (batch(0, b'fine_labels', 100) | {b'fine_labels': [0, 1, 2, 100]}, 'from 0 to 99'),
    ):
        train.write_bytes(python2(content))
        with pytest.raises(UserError, match=f'cifar-100-python/train: .*{message}'):
            CifarDataset(str(root), 'train')
    train.write_bytes(train.read_bytes()[:50])
    with pytest.raises(UserError, match='no pickle of arrays and lists alone'):
        CifarDataset(str(root), 'train')
    train.unlink()
    with pytest.raises(UserError, match='there is no train in it'):
        CifarDataset(str(root), 'train')
