"""Writers and readers of quantized models."""

from .._atomic_file import write_atomically as write_atomically
from .saved_model import load as load
from .saved_model import save as save
