"""The protocols of other servers: each file parses its requests, and renders answers and errors. Pure functions."""
