"""The closed vocabulary of the world.

Names begin with no letter of an option, so that the first capital letter in an explanation that
could be an option is one.
"""

from __future__ import annotations

NAMES = ('Kim', 'Ned', 'Tom', 'Pam', 'Sue', 'Ray', 'Joe', 'Max')
COLOURS = ('red', 'blue', 'green', 'black', 'white', 'brown', 'pink', 'gold')
DAYS = ('Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday')
DIRECTIONS = ('north', 'east', 'south', 'west')
ORDINALS = ('first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh')
KINDS = dict(
    fruits=('apples', 'pears', 'plums', 'lemons'),
    animals=('dogs', 'cats', 'cows', 'hens'),
    tools=('saws', 'rakes', 'drills', 'files'),
)
SIDES = ('heads', 'tails')
TRUTHS = ('true', 'false')
BRACKETS = {'(': ')', '[': ']', '{': '}'}
LETTERS = ('A', 'B', 'C', 'D')
LARGEST = 24
"""Largest number that occurs."""
