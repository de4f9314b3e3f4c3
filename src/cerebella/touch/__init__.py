"""The hand that feels: taxels, worlds to grasp in, and the loop that turns touch into wrist motion (TacRefineNet).

No torch here: the network is in `models.touch_refiner`, and what drives it in `policies.touch_policy`. MuJoCo is needed
for the worlds (`skin_world`, `sphere_world`) alone.
"""
