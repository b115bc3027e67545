# Ternary weights, 8-bit activations, interventions at first. First: teacher_bert-small_cola.py.
_base_ = ['../_base_/two_step_cola.py', '../_base_/cola.py', '../_base_/bert_small.py']
model = dict(
    teacher=dict(_base_.network, checkpoint='work_dirs/teacher_bert-small_cola/iter_3000.pth')
)
