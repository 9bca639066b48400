"""Simulate quantised networks on accelerators, from number formats to cycles and energy.

The package itself imports nothing: each level is imported by name (`hwsim.formats`, `hwsim.pe`, `hwsim.arch`,
`hwsim.cost`), and only `hwsim.flow` and `hwsim.cli` see them all.
"""

__version__ = "0.1.0"
