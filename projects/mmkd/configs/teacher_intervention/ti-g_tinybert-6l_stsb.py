# TinyBERT, 6 layers of width 768 with 12 heads, on STS-B; see ti-g_bert-base_stsb.py.
_base_ = ['../_base_/glue_stsb.py']
model = dict(
    teacher=dict(
        _base_.network, pretrained='{{$MMDISTILL_CKPT:work_dirs}}/teacher_tinybert-6l_stsb'
    ),
)
