# Published peers as settings of TRS: a config lists this file after its TRS config and takes
# ``model = _base_.posecons`` or ``_base_.dualpose`` (arXiv:2011.12498). PoseCons: one network, its
# own easy view teaches its hard view. DualPose: two networks that teach each other.
__cutout = dict(scope='cutout', patches=5, mix_weight=(1, 1), fill=0)
__shared = dict(aux=[], reviewer=None, mix=[dict(type='mmdistill.KeypointMix', **__cutout)])
posecons = dict(teacher=dict(mode='self', weight=1.0), **__shared)
dualpose = dict(teacher=dict(mode='grad', weight=1.0, mutual=True), **__shared)
