"""Being here lets the tests in folders below import `pages`."""
