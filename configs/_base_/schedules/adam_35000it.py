# Adam over 35000 iterations of 4 x (32 + 32) people, down at 2/3 and 5/6: about 30 passes over the
# people of COCO's train2017, which is PoseCons' and PoseDual's budget for 1000 labels.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=0.001),
    constructor='mmdistill.StudentOptimWrapperConstructor',
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[23000, 29000], gamma=0.1, by_epoch=False),
]
train_cfg = dict(type='mmdistill.IterTrainLoop', max_iters=35000, val_interval=5000)
val_cfg = dict(type='mmdistill.TeacherStudentValLoop')
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=256)
