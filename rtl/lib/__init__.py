"""Parts that units share: each file is one part with its contract in its docstring.

Arithmetic follows one rule: an operator forms its exact result (sign, exponent, significand, with everything below the
significand folded into its lowest bit), and :class:`rtl.lib.float_round.FloatRound` alone rounds.
"""
