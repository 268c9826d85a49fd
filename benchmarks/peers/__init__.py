"""Our accuracy beside other tools' in one run; see ../README.md."""
