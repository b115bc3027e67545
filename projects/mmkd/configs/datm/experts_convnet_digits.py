# Six networks of 3194 parameters, 20 epochs each, into WORK_DIR/trajectories. Seconds.
_base_ = ['../_base_/experts.py', '../_base_/digits_images.py']
model = dict(type='mmkd.Classifier', network=_base_.network)
optim_wrapper = dict(optimizer=dict(lr=0.05))
train_dataloader = dict(batch_size=64, dataset=_base_.real_train)
train_cfg = dict(experts=6, epochs=20, held_out=_base_.real_held_out)
