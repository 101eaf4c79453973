"""A run as one file: a model file, a program, a graph of ONNX, a package of bioimage.io."""
