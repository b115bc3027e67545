# From SYNTHIA to Cityscapes; mIoU16 and mIoU13 leave out what SYNTHIA lacks.
# tools/dataset_converters/synthia.py makes its labels and their statistics.
_base_ = ['./gta2cityscapes-512x512.py']
data_root = _base_.data_root
train_dataloader = _base_.train_dataloader
source = train_dataloader.dataset.datasets[0]
source.class_stats = data_root + 'synthia/class_stats.json'
source.dataset.type = 'mmdistill.SYNTHIADataset'
source.dataset.data_root = data_root + 'synthia/'
source.dataset.data_prefix = dict(img_path='RGB', seg_map_path='GT/LABELS')
source.dataset.pipeline[2].scale = (1280, 760)
val_evaluator = dict(_delete_=True, type='mmdistill.SubsetIoUMetric')
test_evaluator = dict(_delete_=True, type='mmdistill.SubsetIoUMetric')
