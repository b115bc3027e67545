# The control of FST: a mean teacher that follows the student as fast, with 5 averages in one.
# The published mean teacher has keep=0.99.
_base_ = ['./fst_deeplabv3plus-r101_4xb4-40e_voc-662-513x513.py']
model = dict(policy='mt', depth=0, keep=0.99**5)
