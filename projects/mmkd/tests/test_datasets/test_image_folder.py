"""Large images of folders: parts within the image, middles exact, mistakes named."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmdistill.core.errors import UserError
from mmkd.datasets.image_folder import RATIOS, ImageFolder, middle_part, random_part

PLAIN = dict(mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def folder(tmp_path):
    """Two classes; pixels say where they were."""
    for name, count in (('cat', 2), ('dog', 3)):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for number in range(count):
            rows, columns = np.mgrid[0:48, 0:80]
            pixels = np.stack([rows, columns, np.full_like(rows, 10 * number)], -1)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(tmp_path / 'train' / name / f'{number}.png')
        (tmp_path / 'train' / name / 'notes.txt').write_text('no image')
    return tmp_path


def test_the_middle_is_the_middle(folder):
    data = ImageFolder(str(folder), 'train', size=24, middle=0.5, **PLAIN)
    assert len(data) == 5 and data.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.metainfo['classes'] == ('cat', 'dog') and not data.changes_samples
    pixels = data[1]['inputs']['pixel_values']
    rows, columns = torch.arange(12.0, 36), torch.arange(28.0, 52)
    assert torch.equal(pixels[0], rows[:, None].expand(24, 24))
    assert torch.equal(pixels[1], columns.expand(24, 24))
    assert (pixels[2] == 10).all()
    assert middle_part(80, 48, 24) == (28, 12, 24, 24)


def test_random_parts_lie_inside_and_have_the_stated_areas_and_shapes():
    torch.manual_seed(0)
    parts = np.array([random_part(80, 48, (0.2, 0.6)) for _ in range(2000)])
    left, top, width, height = parts.T
    assert (left >= 0).all() and (top >= 0).all()
    assert (left + width <= 80).all() and (top + height <= 48).all()
    area = width * height / (80 * 48)
    assert area.min() > 0.19 and area.max() < 0.61
    shape = width / height
    assert shape.min() > RATIOS[0] * 0.93 and shape.max() < RATIOS[1] * 1.07
    assert (left + width == 80).any() and (left == 0).any()
    assert random_part(100, 1, (1.0, 1.0)) == (49, 0, 1, 1)


def test_augmented_samples_change_and_the_unchanged_view_does_not(folder):
    data = ImageFolder(str(folder), 'train', size=16, augment=True, **PLAIN)
    torch.manual_seed(1)
    seen = [data[0]['inputs']['pixel_values'] for _ in range(20)]
    slopes = [float((each[1, :, -1] - each[1, :, 0]).mean()) for each in seen]
    assert min(slopes) < 0 < max(slopes)  # mirrored, and not
    torch.manual_seed(1)
    assert torch.equal(data[0]['inputs']['pixel_values'], seen[0])
    still = data.unchanged()
    assert data.changes_samples and not still.changes_samples
    assert torch.equal(still[0]['inputs']['pixel_values'], still[0]['inputs']['pixel_values'])


def test_mistakes_are_named(folder):
    with pytest.raises(UserError, match='val: there is no such folder'):
        ImageFolder(str(folder), 'val')
    with pytest.raises(UserError, match="no class 'cow'"):
        ImageFolder(str(folder), 'train', classes=['cow'])
    (folder / 'train' / 'cat' / '0.png').write_bytes(b'broken')
    with pytest.raises(UserError, match=r'0\.png: no image that can be read'):
        ImageFolder(str(folder), 'train')[0]
    (folder / 'train' / 'emu').mkdir()
    with pytest.raises(UserError, match='emu: there is no image in it'):
        ImageFolder(str(folder), 'train')
