"""The command line: parses arguments, finds recipes and commands, returns exit codes."""
