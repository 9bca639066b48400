"""Studies and reports: the only level that sees every other; modules import the heavy ones when they run."""
