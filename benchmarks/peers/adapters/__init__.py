"""One program for each tool, run in that tool's environment; see `benchmarks.peers.job`."""
