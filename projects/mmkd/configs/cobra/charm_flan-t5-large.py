# CHARM, FLAN-T5 large: the published schedule, two epochs in batches of 8 x 2, beam of four.
_base_ = ['../_base_/cobra.py']
tokenizer = 'google/flan-t5-large'
model = dict(language_model=dict(pretrained=tokenizer))
train_dataloader = dict(dataset=dict(tokenizer=tokenizer))
val_dataloader = dict(dataset=dict(tokenizer=tokenizer))
test_dataloader = dict(dataset=dict(tokenizer=tokenizer))
