"""Quantized models as ONNX files, with QuantizeLinear and DequantizeLinear where grids are."""
