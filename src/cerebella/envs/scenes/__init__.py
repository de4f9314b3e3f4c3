"""A small vision-language world: flat objects on a table or on the belt, and questions whose answers are known exactly.

NumPy only. `scene` says what there is, `render` shows it, `questions` asks about it.
"""
