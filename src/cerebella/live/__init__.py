"""`cerebella run`: an environment or a robot, a policy near or far, an operator at the keyboard, on the wall clock."""
