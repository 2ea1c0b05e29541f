"""How any program is trained; knows no domain."""
