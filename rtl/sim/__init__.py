"""Run units in a Verilog simulator against the model: equal bits, equal cycles."""
