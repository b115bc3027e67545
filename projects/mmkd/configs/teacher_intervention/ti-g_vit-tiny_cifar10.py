# Ternary weights, 8-bit activations, interventions at first. First: teacher_vit-tiny_cifar10.py.
_base_ = ['../_base_/two_step.py', '../_base_/cifar10_subset.py', '../_base_/vit_tiny.py']
model = dict(
    teacher=dict(_base_.network, checkpoint='work_dirs/teacher_vit-tiny_cifar10/iter_4000.pth')
)
