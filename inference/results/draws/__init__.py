"""Draws of a program: together where that is checked to be right, else one by one."""
