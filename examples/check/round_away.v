// Round to FP32: to nearest, ties away from zero (a planted bug: IEEE 754 and OCP hardware round ties to even).
`define TIES_AWAY
`include "round_even.v"
