# resnet110 teaches resnet32 on CIFAR-100. First: teacher_resnet110_cifar100.py.
_base_ = ['../_base_/tgeo_kd_cifar100.py']
model = dict(
    student=dict(name='resnet32'),
    teacher=dict(
        name='resnet110', checkpoint='work_dirs/teacher_resnet110_cifar100/iter_168960.pth'
    ),
)
