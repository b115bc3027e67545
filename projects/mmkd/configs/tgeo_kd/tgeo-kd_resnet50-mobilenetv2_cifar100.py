# ResNet50 teaches MobileNetV2 on CIFAR-100. First: teacher_resnet50_cifar100.py.
_base_ = ['../_base_/tgeo_kd_cifar100.py']
model = dict(
    student=dict(name='MobileNetV2'),
    teacher=dict(name='ResNet50', checkpoint='work_dirs/teacher_resnet50_cifar100/iter_168960.pth'),
)
optim_wrapper = dict(student=dict(optimizer=dict(lr=0.01)))
