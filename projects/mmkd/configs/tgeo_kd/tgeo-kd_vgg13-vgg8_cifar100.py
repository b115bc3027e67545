# vgg13 teaches vgg8 on CIFAR-100. First: teacher_vgg13_cifar100.py.
_base_ = ['../_base_/tgeo_kd_cifar100.py']
model = dict(
    student=dict(name='vgg8'),
    teacher=dict(name='vgg13', checkpoint='work_dirs/teacher_vgg13_cifar100/iter_168960.pth'),
)
