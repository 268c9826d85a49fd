"""Rows of results: a table for people, JSON for programs."""

from .columns import Column as Column
from .columns import Columns as Columns
from .columns import Remark as Remark
from .columns import Unshown as Unshown
from .columns import decimals as decimals
from .columns import megabytes as megabytes
from .columns import milliseconds as milliseconds
from .columns import percent as percent
from .environment import environment as environment
from .json_file import write as write
from .json_file import write_json as write_json
from .measurements import accuracy_fields as accuracy_fields
from .measurements import float_size as float_size
from .measurements import scores_of as scores_of
from .measurements import similarity_fields as similarity_fields
from .measurements import slow_steps_of as slow_steps_of
from .model_columns import MODEL_COLUMNS as MODEL_COLUMNS
from .protocol import ImageFormat as ImageFormat
from .protocol import Protocol as Protocol
from .protocol import Session as Session
from .protocol import Timing as Timing
from .rows import Report as Report
from .rows import Row as Row
from .terminal import print_table as print_table
