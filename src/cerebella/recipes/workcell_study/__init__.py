"""The study of a workcell policy: what waiting costs, what each part of its training brings; start at `run`."""
