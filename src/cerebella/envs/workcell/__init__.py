"""Two arms at a table in MuJoCo (extra `sim`). Only the modules below import it, not this package."""
