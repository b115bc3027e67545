# All labels of COCO, and unlabelled people whom a detector finds in unlabeled2017.
_base_ = ['coco-1k-semi.py']
unlabeled = dict(
    _delete_=True,
    type='mmdistill.UnlabeledPoseDataset',
    data_root=_base_.data_root,
    ann_file='annotations/image_info_unlabeled2017.json',
    det_file='person_detection_results/COCO_unlabeled2017_detections_person_faster_rcnn.json',
    data_prefix=dict(img='unlabeled2017/'),
    min_score=0.0,
    min_size=0.0,
)
train_dataloader = dict(dataset=dict(labeled=dict(indices=None), unlabeled=unlabeled))
