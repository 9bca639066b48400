"""The families of formats: one module each, a frozen spec with its encoder and decoder; `_*.py` holds their kernels."""
