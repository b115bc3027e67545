"""Operators of mmcv and mmdet3d for CPU tensors: PV-RCNN trains and predicts without a GPU.

Each file holds one family; :func:`install_cpu_ops` puts them in place of the hosts'.
"""

from mmdistill.det3d.cpu_ops.compat import install_cpu_ops, remove_cpu_ops

__all__ = ['install_cpu_ops', 'remove_cpu_ops']
