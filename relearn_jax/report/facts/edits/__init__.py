"""The page of an editing run."""
