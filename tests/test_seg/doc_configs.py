"""The configs in docs/fst.md, and drawn streets as a user's own files."""

import re
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs' / 'fst.md'


def documented(name: str) -> str:
    """The config that the page shows behind the marker ``<!-- config: name -->``."""
    found = re.findall(
        rf'<!-- config: {name} -->\n```python\n(.*?)```', PAGE.read_text(), re.DOTALL
    )
    assert len(found) == 1, name
    return found[0]


def written(folder: Path, name: str, **places: str) -> Path:
    """Writes a documented config with the paths of this machine.

    Args:
        folder: of the file.
        name: of the config.
        **places: what stands instead of ``data/NAME/``.
    """
    text = documented(name).replace('path/to/configs', f'{ROOT}/configs')
    for key, value in places.items():
        assert f"'data/{key}/'" in text
        text = text.replace(f"'data/{key}/'", f"'{value}/'")
    path = folder / f'{name}.py'
    path.write_text(text)
    return path


def draw_streets(root: Path, train: int = 8, val: int = 2, size: tuple = (128, 64)) -> Path:
    """Draws both domains as the tool does."""
    from mmdistill.seg.street_sim import StreetSettings
    from mmdistill.seg.streets_writer import Recipe, write_dataset

    root.mkdir(parents=True, exist_ok=True)
    write_dataset(root, Recipe(train, val, settings=StreetSettings(size=size)))
    return root


def own_files(streets: Path, images: Path, labels: Path) -> None:
    """Copies a split's images as JPEG and its labels as three classes.

    Args:
        streets: folder of a domain and split: ``.../leftImg8bit/train``.
        images: folder to make.
        labels: folder to make.
    """
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for index, path in enumerate(sorted(streets.rglob('*.png'))):
        cv2.imwrite(str(images / f'{index:03d}.jpg'), cv2.imread(str(path)))
        truth = str(path).replace('leftImg8bit/', 'gtFine/')
        truth = cv2.imread(truth.replace('_leftImg8bit', '_gtFine_labelTrainIds'), -1)
        classes = (truth >= 2).astype('uint8')
        classes[truth == 10] = 2
        classes[truth == 255] = 255
        cv2.imwrite(str(labels / f'{index:03d}.png'), classes)
