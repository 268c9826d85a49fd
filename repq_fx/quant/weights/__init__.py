"""Weight quantizers, and rounding that lets weights make up for the error of others."""
