"""The study of tactile refinement: how near to its goal a hand comes by touch alone, in two worlds. Start with `run`."""
