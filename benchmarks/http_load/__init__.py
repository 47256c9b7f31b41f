"""Requests over keep-alive connections, and the servers that they go to: processes with a core for each."""
