"""Arrays of units."""
