"""Messages of the contract to domain values and back: the only place of it."""
