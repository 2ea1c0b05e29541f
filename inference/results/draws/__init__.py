"""Draws of a program: vectorised where that is checked to be equal, else one by one."""
