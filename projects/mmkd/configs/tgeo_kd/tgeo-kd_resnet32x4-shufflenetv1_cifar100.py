# resnet32x4 teaches ShuffleNetV1 on CIFAR-100. First: teacher_resnet32x4_cifar100.py.
_base_ = ['../_base_/tgeo_kd_cifar100.py']
model = dict(
    student=dict(name='ShuffleNetV1'),
    teacher=dict(
        name='resnet32x4', checkpoint='work_dirs/teacher_resnet32x4_cifar100/iter_168960.pth'
    ),
)
optim_wrapper = dict(student=dict(optimizer=dict(lr=0.01)))
