# FST with CutMix in half of the batches, 662 labelled images of VOC.
_base_ = ['./fst_deeplabv3plus-r101_4xb4-40e_voc-662-513x513.py']
model = dict(mix=dict(type='mmdistill.CutMix', probability=0.5))
