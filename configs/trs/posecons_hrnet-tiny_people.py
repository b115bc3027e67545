# PoseCons on drawn people.
_base_ = ['./trs_hrnet-tiny_people.py', '../_base_/models/pose_peers.py']
model = _base_.posecons
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type != 'mmdistill.ReviewerUpdateHook']
val_cfg = dict(branches=('student', 'teacher'))
