# FST with one virtual step that leaves nothing behind, 744 labelled images of Cityscapes; the
# student's forward pass serves the virtual and the real gradient.
_base_ = ['./fst_deeplabv3plus-r101_8xb2-80e_cityscapes-744-769x769.py']
model = dict(depth=1, optimizer_state='isolated', buffers='isolated', draws='share')
