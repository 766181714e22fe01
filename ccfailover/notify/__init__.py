"""Telling people: messages go into the store's outbox first, and out through Apprise."""
