"""The exceptions and warnings of the library.

Wrong arguments raise the built-in `ValueError` or `TypeError`; a model, a data set or a file that
cannot be processed raises a subclass of `RepqError`.
"""


class RepqError(Exception):
    """Base of every refusal that concerns a model, its data or a file."""


class TraceError(RepqError):
    """A model that `torch.fx` cannot trace faithfully."""


class SizeError(RepqError):
    """An input of a size for which a traced graph does not hold."""


class CalibrationError(RepqError):
    """Calibration data that is missing, malformed or too short, or a step that needs it first."""


class ConversionError(RepqError):
    """A prepared model that cannot be converted."""


class ExportError(RepqError):
    """A quantized model that cannot be written for a target, or a package that this takes."""


class FileFormatError(RepqError):
    """A file that is missing, truncated, of another format, or does not fit the model."""


class PrecisionWarning(UserWarning):
    """The result runs, but with another precision than the scheme asks for."""
