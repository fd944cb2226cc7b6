"""The pages of relearning."""
