"""What the reference kernels share: their arithmetic, and how they refuse arguments."""
