# A student that reads the context of a statement.
_base_ = ['../_base_/cobra_world.py']
