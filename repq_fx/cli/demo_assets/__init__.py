"""The model and the images of `repq demo`."""
