# BERT-base on STS-B. The teacher is a folder of save_pretrained or a name on the hub.
_base_ = ['../_base_/glue_stsb.py']
model = dict(
    teacher=dict(_base_.network, pretrained='{{$MMDISTILL_CKPT:work_dirs}}/teacher_bert-base_stsb')
)
