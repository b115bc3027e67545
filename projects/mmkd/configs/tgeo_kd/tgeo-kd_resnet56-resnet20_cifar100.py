# resnet56 teaches resnet20 on CIFAR-100. First: teacher_resnet56_cifar100.py.
_base_ = ['../_base_/tgeo_kd_cifar100.py']
model = dict(
    student=dict(name='resnet20'),
    teacher=dict(name='resnet56', checkpoint='work_dirs/teacher_resnet56_cifar100/iter_168960.pth'),
)
