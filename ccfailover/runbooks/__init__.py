"""Runbook → Plan → Run: recipes, planning, the engine and its driver."""
