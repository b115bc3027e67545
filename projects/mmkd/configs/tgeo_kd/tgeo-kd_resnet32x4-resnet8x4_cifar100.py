# resnet32x4 teaches resnet8x4 on CIFAR-100. First: teacher_resnet32x4_cifar100.py.
_base_ = ['../_base_/tgeo_kd_cifar100.py']
model = dict(
    student=dict(name='resnet8x4'),
    teacher=dict(
        name='resnet32x4', checkpoint='work_dirs/teacher_resnet32x4_cifar100/iter_168960.pth'
    ),
)
