"""A peg into a hole with half a millimetre on each side; it sits askew in the gripper. Task: `insert.task:Insert`."""
