# As for an eighth, with a quarter of CamVid's frames labelled.
_base_ = ['./fst_resnet-tiny_camvid-1of8.py']
labeled_indices = list(range(0, 367, 4))
labeled = dict(_base_.labeled, indices=labeled_indices)
unlabeled = dict(
    _base_.unlabeled,
    dataset=dict(_base_.unlabeled.dataset, indices=sorted(set(range(367)) - set(labeled_indices))),
)
train_dataloader = dict(dataset=dict(datasets=[labeled, unlabeled]))
