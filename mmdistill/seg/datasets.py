"""Datasets that mmseg lacks: GTA5, SYNTHIA and CamVid."""

from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset, CityscapesDataset

from mmdistill.core.errors import UserError
from mmdistill.registry import DATASETS


class ListedSegDataset(BaseSegDataset):
    """A dataset of mmseg that looks at its files when it is made, not in the first epoch.

    Attributes:
        CONVERTER: command that makes the labels, for the message when there are none.
    """

    CONVERTER = ''

    def load_data_list(self) -> list[dict]:
        """Lists the samples.

        Raises:
            UserError: the folder or the list is missing or empty, or the first sample's image
                or label does not exist (local files only).
        """
        folder = self.data_prefix.get('img_path')
        if self.backend_args is None:
            if not Path(folder or '.').is_dir():
                raise UserError(f'{folder}: no such folder; check data_root and data_prefix')
            if self.ann_file and not Path(self.ann_file).exists():
                raise UserError(f'{self.ann_file}: no such list of samples; check ann_file')
        samples = super().load_data_list()
        if not samples:
            place = self.ann_file or f'{folder} with suffix {self.img_suffix!r}'
            raise UserError(f'{place}: no sample found; check data_prefix and the suffixes')
        if self.backend_args is None:
            for key in ('img_path', 'seg_map_path'):
                path = samples[0].get(key)
                if path is not None and not Path(path).is_file():
                    made = (
                        f'; make it with {self.CONVERTER}'
                        if self.CONVERTER and key[0] == 's'
                        else ''
                    )
                    raise UserError(f'{path}: no such file{made or "; check data_prefix"}')
        return samples


@DATASETS.register_module()
class GTA5Dataset(ListedSegDataset):
    """Frames of a computer game (Richter et al., arXiv:1608.02192), 19 classes of Cityscapes.

    24966 images of about 1914x1052 pixels in ``images``, labels in ``labels``, converted by
    ``tools/dataset_converters/gta.py``.

    Args:
        img_suffix: of images.
        seg_map_suffix: of labels.
        **options: of ``BaseSegDataset``, which refuses unknown ones.
    """

    METAINFO = CityscapesDataset.METAINFO
    CONVERTER = 'tools/dataset_converters/gta.py'

    def __init__(
        self, img_suffix: str = '.png', seg_map_suffix: str = '_labelTrainIds.png', **options: Any
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **options)


@DATASETS.register_module()
class SYNTHIADataset(ListedSegDataset):
    """SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016), 19 classes of Cityscapes.

    9400 rendered images of 1280x760 pixels in ``RGB``, labels in ``GT/LABELS``, converted by
    ``tools/dataset_converters/synthia.py``. Terrain, truck and train do not occur in it.

    Args:
        img_suffix: of images.
        seg_map_suffix: of labels.
        **options: of ``BaseSegDataset``, which refuses unknown ones.
    """

    METAINFO = CityscapesDataset.METAINFO
    CONVERTER = 'tools/dataset_converters/synthia.py'

    def __init__(
        self, img_suffix: str = '.png', seg_map_suffix: str = '_labelTrainIds.png', **options: Any
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **options)


@DATASETS.register_module()
class CamVidDataset(ListedSegDataset):
    """CamVid (Brostow et al., 2008) with the usual 11 classes, 480x360 pixels.

    ``images/{train,val}/*.jpg`` and ``annotations/{train,val}/*.png`` with ids 0 to 10 and 255.

    Args:
        img_suffix: of images.
        seg_map_suffix: of labels.
        **options: of ``BaseSegDataset``, which refuses unknown ones.
    """

    METAINFO = dict(
        classes=(
            'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car',
            'pedestrian', 'bicyclist',
        ),
        palette=[
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [0, 0, 192],
            [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0],
            [0, 128, 192],
        ],
    )  # fmt: skip

    def __init__(
        self, img_suffix: str = '.jpg', seg_map_suffix: str = '.png', **options: Any
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **options)
