# Ternary weights, 8-bit activations, interventions at first. First: teacher_bert-tiny_cola.py.
_base_ = ['../_base_/two_step_cola.py', '../_base_/cola.py', '../_base_/bert_tiny.py']
model = dict(
    teacher=dict(_base_.network, checkpoint='work_dirs/teacher_bert-tiny_cola/iter_3000.pth')
)
