"""Train and validation loops."""

from mmdistill.core.loops.epoch_train_loop import EpochTrainLoop
from mmdistill.core.loops.iter_train_loop import IterTrainLoop
from mmdistill.core.loops.teacher_student_val_loop import TeacherStudentValLoop

__all__ = ['EpochTrainLoop', 'IterTrainLoop', 'TeacherStudentValLoop']
