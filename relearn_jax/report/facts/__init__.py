"""The page of a localization."""
