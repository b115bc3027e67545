# DualPose on drawn people.
_base_ = ['./trs_hrnet-tiny_people.py', '../_base_/models/pose_peers.py']
model = _base_.dualpose
custom_hooks = [hook for hook in _base_.custom_hooks if 'UpdateHook' not in hook.type]
val_cfg = dict(branches=('student', 'teacher'))
