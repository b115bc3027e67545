# DualPose with Joint-Cutout and 1000 labelled people of COCO.
_base_ = ['./trs_resnet18_coco-1k_256x192.py', '../_base_/models/pose_peers.py']
model = _base_.dualpose
custom_hooks = [hook for hook in _base_.custom_hooks if 'UpdateHook' not in hook.type]
val_cfg = dict(branches=('student', 'teacher'))
