# CHARM, FLAN-T5 XXL: one example at a time, sixteen a step. The official code uses float16, whose
# range T5 leaves; bfloat16 does not.
_base_ = ['../_base_/cobra.py']
tokenizer = 'google/flan-t5-xxl'
model = dict(language_model=dict(pretrained=tokenizer), dtype='bfloat16')
train_dataloader = dict(dataset=dict(tokenizer=tokenizer))
train_cfg = dict(accumulate=16)
val_dataloader = dict(batch_size=2, dataset=dict(tokenizer=tokenizer))
test_dataloader = dict(batch_size=2, dataset=dict(tokenizer=tokenizer))
