"""Parts that units share: each file is one part with its contract in its docstring.

Arithmetic follows one rule: an operator forms its exact result (sign, exponent, significand, with everything below the
significand folded into its lowest bit), and one part rounds it, :class:`rtl.lib.float_round.FloatRound` with IEEE flags
or :class:`rtl.lib.element_round.ElementRound` to codes of elements; both are made of :mod:`rtl.lib.rounding`.
"""
