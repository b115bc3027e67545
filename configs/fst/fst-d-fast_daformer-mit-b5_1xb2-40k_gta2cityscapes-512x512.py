# FST-D with one virtual step that leaves nothing behind, GTA5 to Cityscapes. What both passes at
# the present weights need is computed once; losses and gradients are those of the formulas.
_base_ = ['./fst-d_daformer-mit-b5_1xb2-40k_gta2cityscapes-512x512.py']
model = dict(depth=1, optimizer_state='isolated', buffers='isolated', reuse=True, draws='share')
