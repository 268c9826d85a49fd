"""Writers and readers of quantized models."""

from .._atomic_file import require_writable as require_writable
from .._atomic_file import write_atomically as write_atomically
from .onnx_check.check import check_onnx as check_onnx
from .onnx_check.operator_use import OperatorUse as OperatorUse
from .onnx_graph.write import onnx as onnx
from .saved_graph import unstorable as unstorable
from .saved_model import Surroundings as Surroundings
from .saved_model import read_model as read_model
from .saved_model import refusal_of_damage as refusal_of_damage
from .saved_model import write_model as write_model
