# wrn_40_2 teaches wrn_40_1 on CIFAR-100. First: teacher_wrn-40-2_cifar100.py.
_base_ = ['../_base_/tgeo_kd_cifar100.py']
model = dict(
    student=dict(name='wrn_40_1'),
    teacher=dict(name='wrn_40_2', checkpoint='work_dirs/teacher_wrn-40-2_cifar100/iter_168960.pth'),
)
