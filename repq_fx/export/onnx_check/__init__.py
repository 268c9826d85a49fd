"""What runtimes make of ONNX files: which operators they compute with integers."""
