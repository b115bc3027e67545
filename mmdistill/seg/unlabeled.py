"""A dataset of mmseg without its labels."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from mmcv.transforms import LoadAnnotations
from mmseg.datasets.transforms import RandomCrop
from torch.utils.data import Dataset

from mmdistill.core.errors import UserError
from mmdistill.registry import DATASETS


@DATASETS.register_module()
class UnlabeledSegDataset(Dataset):
    """The images of any mmseg dataset; labels are neither read nor passed on.

    Label files need not exist. Where they do, as in semi-supervised protocols, their paths are
    taken away before the pipeline runs, and a pipeline that would need them is refused.

    Args:
        dataset: config of a dataset with a pipeline for images alone.

    Attributes:
        dataset: the dataset.
        metainfo: of the dataset.

    Raises:
        UserError: a transform reads labels or depends on them.
    """

    def __init__(self, dataset: dict) -> None:
        config = copy.deepcopy(dict(dataset))
        prefix = dict(config.get('data_prefix') or dict(img_path=''))
        prefix.pop('seg_map_path', None)
        config['data_prefix'] = prefix
        self.dataset = DATASETS.build(config)
        for transform in _flat(self.dataset.pipeline):
            name = type(transform).__name__
            if isinstance(transform, LoadAnnotations):
                raise UserError(f'{name} reads labels; leave it out of an unlabelled pipeline')
            if isinstance(transform, RandomCrop) and transform.cat_max_ratio < 1:
                raise UserError(
                    f'{name} with cat_max_ratio={transform.cat_max_ratio} looks at labels; leave '
                    'cat_max_ratio out of an unlabelled pipeline'
                )

    @property
    def metainfo(self) -> Mapping:
        """Meta information of the dataset."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Lists the samples if that has not been done."""
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the pipeline gets about an image, without ``seg_map_path``."""
        info = self.dataset.get_data_info(index)
        info.pop('seg_map_path', None)
        return info

    def __getitem__(self, index: int) -> Any:
        """The image after the pipeline.

        Raises:
            UserError: the pipeline gives nothing, or a label from somewhere.
        """
        info = self.get_data_info(index)
        path = info['img_path']
        sample = self.dataset.pipeline(info)
        if sample is None:
            raise UserError(f'{path}: the unlabelled pipeline returned nothing')
        if 'gt_sem_seg' in (sample.get('data_samples') or ()) or 'gt_seg_map' in sample:
            raise UserError(f'{path}: the unlabelled pipeline made a label')
        return sample


def _flat(transforms: Any) -> Iterable[Any]:
    """All transforms of a pipeline, those inside others too."""
    inner = getattr(transforms, 'transforms', transforms)
    if inner is not transforms:
        yield transforms
    if isinstance(inner, (list, tuple)):
        for each in inner:
            yield from _flat(each)
    elif inner is transforms:
        yield transforms
    else:
        yield from _flat(inner)
