# From GTA5 to Cityscapes with larger crops, for BEiT.
_base_ = ['./gta2cityscapes-512x512.py']
crop_size = (640, 640)
train_dataloader, val_dataloader = _base_.train_dataloader, _base_.val_dataloader
source, target = train_dataloader.dataset.datasets
source.dataset.pipeline[3].crop_size = target.dataset.pipeline[2].crop_size = crop_size
target.dataset.pipeline[1].scale = val_dataloader.dataset.pipeline[1].scale = (1280, 640)
test_dataloader = val_dataloader
