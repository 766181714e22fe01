"""The steps, one a file; only `wiring.kinds` imports them."""
