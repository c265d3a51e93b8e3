"""Turns what a stranger sends as schemas into versions that are safe to keep: compile, check, bind, merge."""
