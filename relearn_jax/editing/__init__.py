"""Editing: objectives that take a fact out of a model or put another in its place."""
