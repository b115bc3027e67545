# The control of FST-D: a mean teacher that follows the student as fast, with 4 averages in one.
# DAFormer itself has keep=0.999.
_base_ = ['./fst-d_dlv2red-r101_1xb2-40k_gta2cityscapes-512x512.py']
model = dict(policy='mt', depth=0, keep=0.999**4)
