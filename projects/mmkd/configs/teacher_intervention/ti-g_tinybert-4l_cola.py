# TinyBERT, 4 layers of width 312 with 12 heads, on CoLA; see ti-g_bert-base_cola.py.
_base_ = ['../_base_/glue_cola.py']
model = dict(
    teacher=dict(
        _base_.network, pretrained='{{$MMDISTILL_CKPT:work_dirs}}/teacher_tinybert-4l_cola'
    ),
)
