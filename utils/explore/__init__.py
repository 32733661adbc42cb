"""One function, four homes: a figure that its reader can move.

    @explore(batch_size=[2, 16, 256])
    def batch_mean(batch_size: int = 16) -> Drawing:
        '''How far a batch's mean strays from the population's.'''
        return figure, "With 16 examples ..."

`batch_mean()` shows it. With a kernel the function runs at every move; while the book is built all its states are
drawn into files; elsewhere the picture of the default state, or its sentence, stands for it.
"""

from utils.explore.explorable import MOST_STATES, Control, Explorable, control, explore, picture
from utils.explore.live import Live, View
from utils.explore.page import Drawing, State
from utils.explore.question import Answer, Question, exercise, predict
from utils.explore.table import table

__all__ = [
    "MOST_STATES",
    "Answer",
    "Control",
    "Drawing",
    "Explorable",
    "Live",
    "Question",
    "State",
    "View",
    "control",
    "exercise",
    "explore",
    "picture",
    "predict",
    "table",
]
