"""The catalogue: one module a family, each holding frozen specs. A new format is a new value here."""
