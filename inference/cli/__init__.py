"""The shell: words in, exit codes out; finds the recipes and commands that rooms declare."""
