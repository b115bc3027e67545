"""PV-RCNN (arXiv:1912.13192) that trains and predicts on the CPU as well as on a GPU."""

from typing import Any

from mmdet3d.models.detectors import PointVoxelRCNN
from mmengine.logging import print_log

from mmdistill.det3d.compat import fix_spconv_cpu_stream
from mmdistill.det3d.cpu_ops import install_cpu_ops
from mmdistill.registry import MODELS


def rows_by_sample(level: Any) -> Any:
    """A sparse tensor of spconv or mmcv with its rows in the order of their samples."""
    order = level.indices[:, 0].argsort(stable=True)
    rows = level.features[order], level.indices[order]
    return type(level)(*rows, level.spatial_shape, level.batch_size)


@MODELS.register_module()
class PVRCNN(PointVoxelRCNN):
    """The host's PV-RCNN; building it is the one place where the CPU operators are installed.

    They look at the tensors of each call: on a GPU mmcv's own operators run. A process that
    builds no PV-RCNN keeps the hosts' operators, so PointPillars and SECOND compute what they
    always did; where both are built in one process, the log says that operators were exchanged.

    Args:
        *args: of ``PointVoxelRCNN``.
        **kwargs: likewise; parameters and checkpoints are the same.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fix_spconv_cpu_stream()
        if install_cpu_ops():
            print_log(
                'PV-RCNN: operators of mmcv and mmdet3d take CPU tensors from now on, for every '
                'model of this process (mmdistill.det3d.cpu_ops); GPU tensors go to their own',
                logger='current',
            )
        super().__init__(*args, **kwargs)

    def extract_feat(self, batch_inputs_dict: dict) -> dict[str, Any]:
        """The host's features, the rows of every sparse level sorted by sample.

        The points encoder takes a sample's rows to stand together; strided convolutions of
        spconv 2.3.8 mix the samples on the CPU, and keypoints would pool other scenes' features.
        """
        features = super().extract_feat(batch_inputs_dict)
        levels = features['multi_scale_3d_feats']
        features['multi_scale_3d_feats'] = [rows_by_sample(level) for level in levels]
        return features
