"""Instructions of a lowered network, and the programs that they form."""

from .epilogue import Activation as Activation
from .epilogue import Epilogue as Epilogue
from .instruction import Instruction as Instruction
from .layers import ConvolutionGeometry as ConvolutionGeometry
from .layers import Int8Convolution as Int8Convolution
from .layers import Int8Layer as Int8Layer
from .layers import Int8Linear as Int8Linear
from .layers import LayerGrids as LayerGrids
from .level_grid import LevelGrid as LevelGrid
from .movement import ChannelChunk as ChannelChunk
from .movement import ChannelSlice as ChannelSlice
from .movement import Concatenate as Concatenate
from .movement import Flatten as Flatten
from .movement import PixelShuffle as PixelShuffle
from .movement import UpsampleNearest as UpsampleNearest
from .pointwise import LEVELS as LEVELS
from .pointwise import Combination as Combination
from .pointwise import Combine as Combine
from .pointwise import Dequantize as Dequantize
from .pointwise import Lookup as Lookup
from .pointwise import Quantize as Quantize
from .pooling import AveragePool as AveragePool
from .pooling import MaxPool as MaxPool
from .program import Int8Program as Int8Program
