"""Real robots behind the `Environment` seam: LeRobot's Robot classes, and ROS 2 topics. Needs neither of them to load."""
