# The published recipe: LLaMA-13B, four epochs of 5M traces of one teacher, then four of 1M of a
# stronger one, packs of 2048 tokens. Rates, batch and warm-up are ours, not known from the
# paper. MMDISTILL_CKPT has the network, MMDISTILL_DATA the tables that tokenize_traces.py made.
_base_ = ['../_base_/language.py']
batch_size = 2
accumulate = 16
pretrained = '{{$MMDISTILL_CKPT:checkpoints}}/llama-13b'
model = dict(
    language_model=dict(pretrained=pretrained),
    dtype='bfloat16',
    gradient_checkpointing=True,
    chunk=4096,
)
packs = dict(type='mmkd.PackedDataset', cap=2048, data_root='{{$MMDISTILL_DATA:data}}')
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        batch_size=batch_size,
        accumulate=accumulate,
        stages=[
            dict(name='flan-5m', dataset=dict(packs, table='flan-5m'), epochs=4),
            dict(name='flan-1m', dataset=dict(packs, table='flan-1m', stage=1), epochs=4),
        ],
    ),
)
train_cfg = dict(
    accumulate=accumulate,
    stages=[dict(name='flan-5m'), dict(name='flan-1m', optimizer=dict(lr=1e-5))],
)
# evaluate_traces.py scores the export; a network in shards answers nothing
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
custom_hooks = [dict(type='mmdistill.PreemptHook'), dict(type='mmkd.PackStatisticsHook')]
# memory of many GPUs: mmengine's own runner and strategy
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(
        auto_wrap_policy=dict(
            type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy', min_num_params=1e7
        )
    ),
)
