"""Named sessions (document 004): any number of them per user, one of which is active."""
