"""Images of folders and zip files: the same samples, labels by name, moves and flips, errors."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mmdistill.core.errors import UserError
from mmkd.datasets.image_dataset import ImageDataset

PLAIN = dict(mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def folder(tmp_path):
    """Two classes of three images; the pixels name class, image and column."""
    for number, name in enumerate(('cat', 'dog')):
        home = tmp_path / 'set' / 'train' / name
        home.mkdir(parents=True)
        for index in range(3):
            pixels = np.zeros((4, 6, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = 100 * number + index, np.arange(6)
            Image.fromarray(pixels).save(home / f'{index}.png')
    return tmp_path / 'set'


@pytest.fixture
def archive(folder):
    """The same as a zip file."""
    path = folder.with_suffix('.zip')
    with zipfile.ZipFile(path, 'w') as file:
        for each in sorted(folder.rglob('*.png')):
            file.write(each, f'top/{each.relative_to(folder)}')
    return path


def test_folder_and_archive_give_the_same(folder, archive):
    one, other = (ImageDataset(str(path), 'train', **PLAIN) for path in (folder, archive))
    assert len(one) == len(other) == 6 and one.metainfo == dict(classes=('cat', 'dog'))
    for index in range(6):
        a, b = one[index], other[index]
        assert torch.equal(a['inputs']['pixel_values'], b['inputs']['pixel_values'])
        assert a['labels'] == b['labels'] == index // 3
        assert float(a['inputs']['pixel_values'][0, 0, 0]) == 100 * (index // 3) + index % 3


def test_classes_by_name_and_a_part_of_the_images(folder):
    data = ImageDataset(str(folder), 'train', classes=['dog', 'cat'], per_class=2, **PLAIN)
    firsts = [float(data[n]['inputs']['pixel_values'][0, 0, 0]) for n in range(len(data))]
    assert data.labels == [0, 0, 1, 1] and firsts == [100, 101, 0, 1]


def test_normalised_by_channel(folder):
    data = ImageDataset(str(folder), 'train', mean=(10, 1, 0), std=(2, 4, 1))
    image = data[3]['inputs']['pixel_values']
    assert torch.equal(image[0], torch.full((4, 6), 45.0))
    assert torch.equal(image[1, 0], (torch.arange(6) - 1) / 4)


def test_moves_and_flips_are_those_of_the_generator(folder):
    data = ImageDataset(str(folder), 'train', pad=2, flip=True, **PLAIN)
    torch.manual_seed(0)
    first = [data[1]['inputs']['pixel_values'] for _ in range(60)]
    torch.manual_seed(0)
    again = [data[1]['inputs']['pixel_values'] for _ in range(60)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert {tuple(each.shape) for each in first} == {(3, 4, 6)}
    # columns of the image that are seen: moved by at most two, forwards or backwards
    seen = {tuple(each[1].amax(0).int().tolist()) for each in first}
    forward = {tuple((np.pad(np.arange(6), 2)[s : s + 6]).tolist()) for s in range(5)}
    assert seen <= forward | {each[::-1] for each in forward} and len(seen) == 10


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(UserError, match='nowhere.zip: there is no such file'):
        ImageDataset('nowhere.zip', 'train')
    with pytest.raises(UserError, match='there is no val/CLASS/NAME.jpg in it'):
        ImageDataset(str(folder), 'val')
    with pytest.raises(UserError, match=r"train has no class 'cow'; there are \['cat', 'dog'\]"):
        ImageDataset(str(folder), 'train', classes=['cow'])
    (folder / 'train' / 'cat' / '1.png').write_bytes(b'no image')
    with pytest.raises(UserError, match='train/cat/1.png is no image that can be read'):
        ImageDataset(str(folder), 'train')
    Image.new('RGB', (5, 5)).save(folder / 'train' / 'cat' / '1.png')
    with pytest.raises(UserError, match=r'1.png has \(5, 5\) pixels, the others \(4, 6\)'):
        ImageDataset(str(folder), 'train')
    (tmp_path / 'broken.zip').write_bytes(b'PK no')
    with pytest.raises(UserError, match='neither a folder nor a whole zip file'):
        ImageDataset(str(tmp_path / 'broken.zip'), 'train')
