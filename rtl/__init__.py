"""Hardware twins of the simulator's units, in Amaranth, with the bench that holds both to the same bits and cycles."""
