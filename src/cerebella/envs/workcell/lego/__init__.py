"""Assemblies of bricks, to be taken apart and sorted by colour."""
