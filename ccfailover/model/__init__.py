"""The nouns that two or more rooms share: frozen dataclasses, no input or output."""
