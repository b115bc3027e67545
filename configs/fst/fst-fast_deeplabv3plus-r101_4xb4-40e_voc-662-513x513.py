# FST with one virtual step that leaves nothing behind, 662 labelled images of VOC; the student's
# forward pass serves the virtual and the real gradient.
_base_ = ['./fst_deeplabv3plus-r101_4xb4-40e_voc-662-513x513.py']
model = dict(depth=1, optimizer_state='isolated', buffers='isolated', draws='share')
