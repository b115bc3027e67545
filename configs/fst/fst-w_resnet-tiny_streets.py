# FST-W on drawn streets: two virtual students from images of their own.
_base_ = ['./fst-d_resnet-tiny_streets.py']
model = dict(policy='official_w', depth=1, width=2, virtual_data='fresh', draws='redraw')
train_dataloader = dict(batch_size=24, sampler=dict(batch_size=24))
